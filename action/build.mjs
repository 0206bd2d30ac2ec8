// Bundles src into dist, or (--tests) test into .test, where node's test runner finds them.
import { build } from 'esbuild'
import { readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'

const common = { bundle: true, platform: 'node', target: 'node20', format: 'cjs', legalComments: 'none', metafile: true, logLevel: 'warning', charset: 'utf8' }

/** without leaves modules out: only the names that others import from them are there. */
const without = (filter, contents) => ({
  name: 'without',
  setup(b) {
    b.onResolve({ filter }, ({ path }) => ({ path, namespace: 'absent' }))
    b.onLoad({ filter: /.*/, namespace: 'absent' }, () => ({ contents }))
  },
})

// @actions/core brings an HTTP client of half a megabyte for one function that is not used
// here. The start of a job waits for what is loaded: it is left out of what is always loaded.
const http = without(/^@actions\/http-client/, 'export class HttpClient {}; export class BearerCredentialHandler {}')

// Of @actions/artifact only uploads are used. What finds, fetches and deletes artifacts brings
// all of Octokit.
const names = ['download', 'delete', 'get', 'list'].flatMap((what) => {
  const name = `${what}Artifact${what === 'list' ? 's' : ''}`
  return [`${name}Public`, `${name}Internal`]
})
const uploadsAlone = without(/^\.\/(download|delete|find)\/[a-z-]+\.js$/, `const no = () => { throw new Error('left out') }; export { ${names.map((n) => `no as ${n}`).join(', ')} }`)

/** licences are those of the packages that bundles hold a part of. */
function licences(...bundles) {
  const folders = new Set(bundles.flatMap((b) => Object.keys(b.metafile.inputs)).map((path) => /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path)?.[0]).filter((f) => f !== undefined))
  const texts = new Map()
  for (const folder of folders) {
    const { name, version, license } = JSON.parse(readFileSync(`${folder}/package.json`, 'utf8'))
    const file = readdirSync(folder).sort().find((f) => /^licen[cs]e(\.(md|txt))?$/i.test(f))
    texts.set(`${name} ${version}`, `${name} ${version}: ${license}\n\n${file === undefined ? '' : readFileSync(`${folder}/${file}`, 'utf8').trim().replace(/\r/g, '') + '\n\n'}`)
  }
  return [...texts.keys()].sort().map((k) => texts.get(k)).join('-'.repeat(80) + '\n')
}

if (process.argv.includes('--tests')) {
  rmSync('.test', { recursive: true, force: true })
  const tests = readdirSync('test').filter((f) => f.endsWith('.test.ts'))
  await build({ ...common, entryPoints: tests.map((f) => `test/${f}`), outdir: '.test', sourcemap: 'inline' })
} else {
  rmSync('dist', { recursive: true, force: true })
  const action = await build({ ...common, entryPoints: ['src/action.ts'], outdir: 'dist', plugins: [http] })
  // Minified: nobody reads 3 MB of somebody else's library, and each job fetches them.
  const upload = await build({
    ...common, entryPoints: ['src/upload.ts'], outdir: 'dist', plugins: [uploadsAlone], minify: true,
    // Modules of the library ask where they are; in this format nothing says so of itself.
    banner: { js: "const here = require('url').pathToFileURL(__filename).href;" }, define: { 'import.meta.url': 'here' },
  })
  writeFileSync('dist/licences.txt', licences(action, upload))
  for (const stage of ['pre', 'main', 'post']) {
    writeFileSync(`dist/${stage}.js`, `require('./action.js').run('${stage}')\n`)
  }
}
