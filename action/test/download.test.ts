import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer, type RequestListener } from 'node:http'
import { connect, createServer as createTCP, type AddressInfo, type Server } from 'node:net'
import { join } from 'node:path'
import test from 'node:test'
import { download, proxyFor, tunnel } from '../src/download'

const good = createHash('sha256').update('good').digest('hex')

/** serving runs a function with a server on loopback, and what the cache is. */
async function serving(answer: RequestListener, use: (base: string, env: NodeJS.ProcessEnv) => Promise<void>): Promise<void> {
  const server = createServer(answer)
  const base = `http://127.0.0.1:${await listening(server)}`
  try {
    await use(base, { RUNNER_TOOL_CACHE: mkdtempSync('/tmp/sallyport-action-') })
  } finally {
    server.closeAllConnections()
    server.close()
  }
}

async function listening(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return (server.address() as AddressInfo).port
}

const most = { within: 20_000, bytes: 1000 }

test('the digest decides, and the tool cache is looked at each time', async () => {
  let asked = 0
  await serving((q, r) => { asked++; r.end(q.url === '/evil' ? 'evil' : 'good') }, async (base, env) => {
    await assert.rejects(download(`${base}/evil`, '1.2.3', 'x64', good, env), /has the digest .*, not .*: it was not started/)
    const file = await download(`${base}/good`, '1.2.3', 'x64', good, env)
    assert.equal(readFileSync(file, 'utf8'), 'good')
    assert.equal(await download(`${base}/good`, '1.2.3', 'x64', good, env), file)
    assert.equal(asked, 2)
    writeFileSync(file, 'evil') // an earlier job on the same machine
    assert.equal(readFileSync(await download(`${base}/good`, '1.2.3', 'x64', good, env), 'utf8'), 'good')
    assert.equal(asked, 3)
    assert.deepEqual(readdirSync(join(file, '..')), ['sallyport-agent'], 'nothing in part is left')
  })
})

test('it is sent on, and a failure that passes is one', async () => {
  let failures = 2
  await serving((q, r) => {
    if (q.url === '/here') {
      r.writeHead(302, { location: '/there' }).end()
    } else if (failures-- > 0) {
      failures === 1 ? r.writeHead(503).end() : q.socket.destroy()
    } else {
      r.end('good')
    }
  }, async (base, env) => {
    assert.equal(readFileSync(await download(`${base}/here`, '1', 'x64', good, env, most), 'utf8'), 'good')
  })
})

test('what does not pass, is too much or has no end: an error that says what', async () => {
  let asked = 0
  const answers: Record<string, RequestListener> = {
    '/none': (_, r) => r.writeHead(404).end(),
    '/down': (_, r) => r.writeHead(503).end(),
    '/much': (_, r) => r.end('x'.repeat(2000)),
    '/round': (_, r) => r.writeHead(302, { location: '/round' }).end(),
    '/clear': (_, r) => r.writeHead(302, { location: 'http://example.test/?secret' }).end(),
    '/file': (_, r) => r.writeHead(302, { location: 'file:///etc/passwd' }).end(),
    '/silent': () => {},
    '/slow': (_, r) => { r.write('g') },
  }
  await serving((q, r) => { asked++; answers[q.url ?? '']?.(q, r) }, async (base, env) => {
    for (const [path, says, times, limits] of [
      ['/none', /answers 404/, 1, most], ['/down', /answers 503/, 3, most], ['/much', /more than 1000 bytes/, 1, most], ['/round', /more than 5 times/, 6, most],
      ['/clear', /sent on to http:\/\/example\.test, which is not https/, 1, most], ['/file', /not https/, 1, most],
      ['/silent', /did not come within 200 ms/, 1, { within: 200, bytes: 1000 }], ['/slow', /did not come within 200 ms/, 1, { within: 200, bytes: 1000 }],
    ] as const) {
      asked = 0
      await assert.rejects(download(base + path, '1', 'x64', good, env, limits), (e: Error) => says.test(e.message) && e.message.startsWith(`download ${base}${path}: `), path)
      assert.equal(asked, times, path)
    }
  })
})

test('which proxy', () => {
  const at = (url: string, env: NodeJS.ProcessEnv) => proxyFor(new URL(url), env)?.href
  const env = { HTTPS_PROXY: 'http://proxy.example.test:3128', NO_PROXY: 'localhost, .corp.test,*.lab.test other.test:8443' }
  assert.equal(at('https://github.com/x', env), 'http://proxy.example.test:3128/')
  assert.equal(at('https://github.com/x', { https_proxy: 'proxy.example.test:3128' }), 'http://proxy.example.test:3128/')
  assert.equal(at('https://github.com/x', {}), undefined)
  assert.equal(at('http://127.0.0.1/x', env), undefined)
  for (const host of ['a.corp.test', 'a.lab.test', 'other.test:8443', 'localhost']) {
    assert.equal(at(`https://${host}/`, env), undefined, host)
  }
  for (const host of ['evilcorp.test', 'other.test']) {
    assert.notEqual(at(`https://${host}/`, env), undefined, host)
  }
  assert.equal(at('https://github.com/x', { ...env, NO_PROXY: '*' }), undefined)
  assert.throws(() => at('https://github.com/x', { HTTPS_PROXY: 'http://u:swordfish@:x' }), (e: Error) => !e.message.includes('swordfish'))
})

test('through a proxy that asks for a password', async () => {
  const echo = createTCP((c) => c.pipe(c))
  const to = `127.0.0.1:${await listening(echo)}`
  const proxy = createServer().on('connect', (q, socket) => {
    if (q.headers['proxy-authorization'] !== `Basic ${Buffer.from('me:sword fish').toString('base64')}`) {
      socket.end('HTTP/1.1 407 No\r\n\r\n')
      return
    }
    const [host = '', port] = (q.url ?? '').split(':')
    const there = connect(Number(port), host, () => { socket.write('HTTP/1.1 200 OK\r\n\r\n'); socket.pipe(there).pipe(socket) })
  })
  const port = await listening(proxy)
  try {
    const signal = AbortSignal.timeout(20_000)
    const socket = await tunnel(new URL(`http://me:sword%20fish@127.0.0.1:${port}`), to, signal)
    const said = new Promise((resolve) => socket.once('data', (d: Buffer) => resolve(d.toString())))
    socket.write('hello')
    assert.equal(await said, 'hello')
    socket.destroy()
    await assert.rejects(tunnel(new URL(`http://127.0.0.1:${port}`), to, signal), /the proxy answers 407/)
  } finally {
    proxy.close()
    echo.close()
  }
})
