import assert from 'node:assert/strict'
import test from 'node:test'
import { parseEndpoints } from '../src/endpoints'

test('all forms', () => {
  const { endpoints, problems } = parseEndpoints(`
    api.example.test:443  Registry.Example.Test. *.blob.example.test:8443
    .suffix.example.test, 192.0.2.7 192.0.2.8:22,198.51.100.0/24:80
    2001:db8::1 [2001:db8::2]:8443 [2001:db8:1::/48]:443 2001:db8:2::/48 xn--bcher-kva.example.test`)
  assert.deepEqual(problems, [])
  assert.deepEqual(endpoints.map((e) => `${e.kind} ${e.target} ${e.port}`), [
    'host api.example.test 443', 'host registry.example.test 443', 'suffix blob.example.test 8443',
    'suffix suffix.example.test 443', 'host 192.0.2.7 443', 'host 192.0.2.8 22', 'network 198.51.100.0/24 80',
    'host 2001:db8::1 443', 'host 2001:db8::2 8443', 'network 2001:db8:1::/48 443', 'network 2001:db8:2::/48 443',
    'host xn--bcher-kva.example.test 443',
  ])
})

test('what cannot be read is said, and the rest is read', () => {
  for (const [word, why] of [
    ['https://example.test/x', 'URL'], ['example.test:0', 'port'], ['example.test:65536', 'port'], ['example.test:', 'port'], ['a:b:c', 'port'],
    ['*', 'first label'], ['a.*.example.test', 'first label'], ['*evil.test', 'first label'], ['192.0.2.0/33', 'network'], ['192.0.2.0/', 'network'],
    ['192.0.2.300', 'neither'], ['[example.test]:1', 'brackets'], ['bücher.example.test', 'ASCII'], ['-x.test', 'not the name'],
    ['example..test', 'not the name'], [`${'a'.repeat(64)}.test`, 'not the name'], ['a\u0000b', 'ASCII'], ['::error::x', 'port'],
  ] as const) {
    const { endpoints, problems } = parseEndpoints(`${word} good.example.test`)
    assert.deepEqual(endpoints.map((e) => e.target), ['good.example.test'], word)
    assert.equal(problems.length, 1, word)
    assert.ok(problems[0]?.includes(why), `${word}: ${problems[0]}`)
    assert.ok(!/[\n\r\u0000]/.test(problems[0] ?? ''), word)
  }
})

test('whatever comes, each word is an endpoint or a problem, and quickly', () => {
  // A generator with a fixed seed: the same words at each run.
  let seed = 7
  const next = (n: number) => (seed = (seed * 1103515245 + 12345) % 2 ** 31) % n
  const pieces = ['*', '.', ':', '/', '[', ']', 'a', '9', '-', '::', '443', '.test', '\u0000', '@', 'ß', '65536', '/24', '2001:db8::']
  for (let round = 0; round < 3000; round++) {
    const word = Array.from({ length: 1 + next(8) }, () => pieces[next(pieces.length)]).join('')
    const { endpoints, problems } = parseEndpoints(word)
    assert.equal(endpoints.length + problems.length, 1, word)
    for (const e of endpoints) {
      assert.ok(e.port >= 1 && e.port <= 65535 && /^[0-9a-z._:/-]+$/.test(e.target), word)
    }
  }
  const begin = performance.now()
  parseEndpoints(`${'a.'.repeat(100_000)} ${'[:'.repeat(100_000)} ${'x '.repeat(100_000)}`)
  assert.ok(performance.now() - begin < 5000)
})
