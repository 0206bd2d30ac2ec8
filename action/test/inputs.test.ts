import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import test from 'node:test'
import { parse } from 'yaml'
import { known, readInputs } from '../src/inputs'

test('action.yml and the code have the same inputs', () => {
  const yml = parse(readFileSync('action.yml', 'utf8')) as { inputs: Record<string, { default?: string; description?: string }> }
  const defaults = Object.fromEntries(Object.entries(yml.inputs).map(([name, i]) => [name, i.default ?? '']))
  assert.deepEqual(defaults, known)
  for (const [name, i] of Object.entries(yml.inputs)) {
    assert.ok(i.description, `${name} has no description`)
  }
})

test('every input is in the docs', () => {
  const docs = readFileSync('../docs/action.md', 'utf8')
  for (const name of Object.keys(known)) {
    assert.ok(docs.includes(`\`${name}\``), name)
  }
})

test('nothing given: nothing to warn of', () => {
  const i = readInputs({})
  assert.deepEqual([i.warnings, i.errors, i.notes, i.secrets], [[], [], [], []])
  assert.deepEqual([i.failOn, i.summary, i.requireAgent, i.deployOnSelfHosted], ['never', true, false, true])
})

test('a workflow of Harden-Runner carries over, and is told what is not done', () => {
  const i = readInputs({
    'INPUT_EGRESS-POLICY': 'block', 'INPUT_ALLOWED-ENDPOINTS': 'api.example.test:443\n  registry.example.test:443\n',
    'INPUT_DISABLE-SUDO': 'true', 'INPUT_DISABLE-SUDO-AND-CONTAINERS': 'True', 'INPUT_DISABLE-FILE-MONITORING': 'true',
    'INPUT_DISABLE-TELEMETRY': 'true', 'INPUT_POLICY': 'mine', 'INPUT_USE-POLICY-STORE': 'true', 'INPUT_API-KEY': 'swordfish',
    'INPUT_EXEMPT-FILES': 'dist/a.js', 'INPUT_DEPLOY-ON-SELF-HOSTED-VM': 'false', 'INPUT_TOKEN': 'ghs_x',
  })
  assert.deepEqual(i.errors, [])
  const said = i.warnings.join('\n')
  for (const name of ['egress-policy: block', 'allowed-endpoints: 2 endpoints', 'disable-sudo:', 'disable-sudo-and-containers:',
    'disable-file-monitoring:', 'exempt-files:', 'policy:', 'use-policy-store:']) {
    assert.ok(said.includes(`not enforced: ${name}`), `${name} is passed over in silence:\n${said}`)
  }
  assert.ok(said.includes('api-key is not used'))
  assert.ok(!said.includes('swordfish'))
  assert.ok(i.disableTelemetry)
  assert.ok(!i.deployOnSelfHosted)
  assert.deepEqual(i.secrets, ['swordfish', 'ghs_x'])
})

test('unknown inputs and values', () => {
  const i = readInputs({ 'INPUT_EGRES-POLICY': 'block', 'INPUT_X\n::error::y': '1', 'INPUT_FAIL-ON': 'maybe', 'INPUT_SUMMARY': 'sure', 'INPUT_EGRESS-POLICY': 'deny' })
  assert.deepEqual(i.warnings, ['there is no input "egres-policy": it does nothing', 'there is no input "x\\n::error::y": it does nothing'])
  assert.equal(i.errors.length, 3)
  // A typing error does not switch off what somebody asked for.
  assert.equal(i.failOn, 'threat')
})

test('passwords in addresses are secrets, also decoded', () => {
  const i = readInputs({ 'INPUT_NATS': 'tls://agent:p%40ss@n1.example.test:4222, nats://tok3n@n2.example.test' })
  assert.deepEqual(i.secrets, ['tls://agent:p%40ss@n1.example.test:4222, nats://tok3n@n2.example.test', 'p%40ss', 'p@ss', 'tok3n'])
})

test('addresses and digests are checked', () => {
  for (const [name, value] of [
    ['server', 'http://sallyport.example.test'], ['server', 'https://user:pw@sallyport.example.test'], ['server', 'sallyport'],
    ['agent-url', 'file:///tmp/x'], ['agent-sha256', 'abc'], ['agent-version', '../../x'],
  ] as const) {
    const i = readInputs({ [`INPUT_${name.toUpperCase()}`]: value })
    assert.equal(i.errors.length, 1, `${name}: ${value}`)
    assert.ok(!i.errors[0]?.includes('pw'))
  }
  assert.deepEqual(readInputs({ INPUT_SERVER: 'http://127.0.0.1:7070' }).errors, [])
})
