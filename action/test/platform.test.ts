import assert from 'node:assert/strict'
import test from 'node:test'
import { findSudo, whyNot } from '../src/platform'

const here = { os: 'linux', arch: 'x64', contained: false, root: false, selfHosted: false }

test('where an agent can watch', () => {
  assert.equal(whyNot(here, true), undefined)
  assert.equal(whyNot({ ...here, arch: 'arm64' }, true), undefined)
  assert.equal(whyNot({ ...here, selfHosted: true }, true), undefined)
})

test('where none can it is said why, and that the job goes on', () => {
  for (const [p, words] of [
    [{ os: 'win32' }, /does not observe jobs on Windows/], [{ os: 'darwin' }, /on macOS/], [{ os: 'freebsd' }, /on freebsd/],
    [{ arch: 'ia32' }, /not for ia32/], [{ contained: true }, /runs in a container/],
  ] as const) {
    const why = whyNot({ ...here, ...p }, true)
    assert.match(why ?? '', words)
    assert.match(why ?? '', /goes on/)
  }
  assert.match(whyNot({ ...here, selfHosted: true }, false) ?? '', /deploy-on-self-hosted-vm/)
})

test('root needs no sudo; others need one', () => {
  assert.deepEqual(findSudo(true, []), [])
  assert.throws(() => findSudo(false, ['/no/such/sudo']), /this runner has no sudo/)
  assert.deepEqual(findSudo(false, ['/no/such', process.execPath]), [process.execPath, '-n', '--'])
})
