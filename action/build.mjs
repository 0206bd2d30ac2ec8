// Bundles src into dist, or (--tests) test into .test, where node's test runner finds them.
import { build } from 'esbuild'
import { readdirSync, rmSync, writeFileSync } from 'node:fs'

const common = { bundle: true, platform: 'node', target: 'node20', format: 'cjs', legalComments: 'none', logLevel: 'warning', charset: 'utf8' }

// @actions/core brings an HTTP client of half a megabyte for one function that is not used
// here. The start of a job waits for what is loaded: it is left out of what is always loaded.
const withoutHTTP = {
  name: 'without-http',
  setup(b) {
    b.onResolve({ filter: /^@actions\/http-client/ }, () => ({ path: 'http-client', namespace: 'absent' }))
    b.onLoad({ filter: /.*/, namespace: 'absent' }, () => ({ contents: 'export class HttpClient {}; export class BearerCredentialHandler {}' }))
  },
}

if (process.argv.includes('--tests')) {
  rmSync('.test', { recursive: true, force: true })
  const tests = readdirSync('test').filter((f) => f.endsWith('.test.ts'))
  await build({ ...common, entryPoints: tests.map((f) => `test/${f}`), outdir: '.test', sourcemap: 'inline' })
} else {
  rmSync('dist', { recursive: true, force: true })
  await build({ ...common, entryPoints: ['src/action.ts'], outdir: 'dist', plugins: [withoutHTTP] })
  for (const stage of ['pre', 'main', 'post']) {
    writeFileSync(`dist/${stage}.js`, `require('./action.js').run('${stage}')\n`)
  }
}
