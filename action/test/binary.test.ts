import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { chmodSync, lchownSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'node:test'
import { install, onMachine, wanted } from '../src/binary'
import { readInputs } from '../src/inputs'

const digest = (text: string) => createHash('sha256').update(text).digest('hex')
const folder = () => mkdtempSync('/tmp/sallyport-action-')
const inputs = (given: Record<string, string>) =>
  readInputs(Object.fromEntries(Object.entries(given).map(([k, v]) => [`INPUT_${k.toUpperCase()}`, v])))

test('which agent: a path, the pinned release, another one with its digest', () => {
  const pins = { version: 'v1.2.3', sha256: { x64: 'a'.repeat(64), arm64: '' } }
  assert.deepEqual(wanted(inputs({ 'agent-path': '/opt/agent' }), 'x64', pins), { path: '/opt/agent', sha256: '' })
  assert.deepEqual(wanted(inputs({}), 'x64', pins), {
    url: 'https://github.com/sallyport-ci/sallyport/releases/download/v1.2.3/sallyport-agent-linux-x64', version: '1.2.3', sha256: 'a'.repeat(64),
  })
  const other = wanted(inputs({ 'agent-version': 'v2', 'agent-sha256': 'B'.repeat(64), 'agent-url': 'https://mirror.example.test/a/' }), 'x64', pins)
  assert.deepEqual(other, { url: 'https://mirror.example.test/a/sallyport-agent-linux-x64', version: '2', sha256: 'b'.repeat(64) })
  assert.throws(() => wanted(inputs({ 'agent-version': 'v2', 'agent-sha256': 'b'.repeat(64), 'agent-url': 'https://me:swordfish@mirror.example.test' }), 'x64', pins), /^Error: agent-url is not/)
  assert.throws(() => wanted(inputs({ 'agent-version': 'v2' }), 'x64', pins), /digest .* is not known/)
  assert.throws(() => wanted(inputs({}), 'arm64', pins), /digest .* is not known/)
  assert.throws(() => wanted(inputs({}), 'x64', { version: '', sha256: {} }), /no agent has been released/)
})

test('a copy that only root can change, with the digest that was asked for', async () => {
  const dir = folder()
  const file = join(dir, 'agent')
  writeFileSync(file, '#!/bin/sh\necho good\n')
  const want = digest('#!/bin/sh\necho good\n')
  const copy = await install(file, want, join(dir, 'bin'), [])
  assert.equal(statSync(copy).uid, 0)
  assert.equal(statSync(copy).mode & 0o7777, 0o755)
  // Somebody changed the copy: it is made again.
  writeFileSync(copy, 'evil')
  assert.equal(await install(file, want, join(dir, 'bin'), []), copy)
  assert.equal(readFileSync(copy, 'utf8'), '#!/bin/sh\necho good\n')
  // Somebody changed the file.
  writeFileSync(file, 'evil')
  assert.equal(await install(file, want, join(dir, 'bin'), []), copy, 'the good copy is there')
  await assert.rejects(install(file, digest('other'), join(dir, 'bin2'), []), /has the digest .*, not .*: it was not started/)
  assert.throws(() => statSync(join(dir, 'bin2', digest('other').slice(0, 16), 'sallyport-agent')))
  await assert.rejects(install(join(dir, 'none'), want, join(dir, 'bin3'), []), /none/)
})

test('jobs that begin at once have one copy, and leave nothing else', async () => {
  const dir = folder()
  const file = join(dir, 'agent')
  const text = 'x'.repeat(1 << 20)
  writeFileSync(file, text)
  const want = digest(text)
  const copies = await Promise.all(Array.from({ length: 12 }, () => install(file, want, join(dir, 'bin'), [])))
  assert.deepEqual(new Set(copies).size, 1)
  assert.equal(digest(readFileSync(copies[0] as string, 'utf8')), want)
  await Promise.allSettled(Array.from({ length: 4 }, () => install(file, digest('other'), join(dir, 'bin'), [])))
  const left = readdirSync(join(dir, 'bin'), { recursive: true, withFileTypes: true }).filter((e) => e.isFile()).map((e) => e.name)
  assert.deepEqual(left, ['sallyport-agent'])
})

test('the program of the machine, if only root can change it', async () => {
  const dir = folder()
  const [none, open, roots] = ['none', 'open', 'roots'].map((n) => join(dir, n)) as [string, string, string]
  writeFileSync(open, '')
  chmodSync(open, 0o777)
  writeFileSync(roots, '')
  chmodSync(roots, 0o755)
  assert.equal(await onMachine([none, open, roots]), roots)
  assert.equal(await onMachine([none, open]), '')
})

test('not below a folder that others can write', async () => {
  const dir = folder()
  writeFileSync(join(dir, 'agent'), 'x')
  chmodSync(dir, 0o777)
  await assert.rejects(install(join(dir, 'agent'), '', join(dir, 'bin'), []), /others than root can change/)
})

test('a link that somebody else can point elsewhere later is no place for the agent', async () => {
  const dir = folder()
  writeFileSync(join(dir, 'agent'), 'good')
  chmodSync(dir, 0o1777)
  mkdirSync(join(dir, 'roots'))
  symlinkSync(join(dir, 'roots'), join(dir, 'bin'))
  assert.ok(await install(join(dir, 'agent'), '', join(dir, 'bin'), []))
  lchownSync(join(dir, 'bin'), 65534, 65534)
  await assert.rejects(install(join(dir, 'agent'), '', join(dir, 'bin'), []), /others than root can change/)
})
