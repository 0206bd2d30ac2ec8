import assert from 'node:assert/strict'
import test from 'node:test'
import { escaped, shown } from '../src/action'
import { judge } from '../src/verdict'

const report = (r: object) => JSON.stringify(r)
const threat = { policy: { title: 'Memory', class: 'POLICY_CLASS_THREAT' }, message: 'python read memory' }
const fresh = { policy: { title: 'New endpoint', class: 'POLICY_CLASS_NEW_BEHAVIOUR' }, message: 'curl sent' }

test('threat and new', () => {
  assert.deepEqual(judge(report({ judgement: {} }), 'threat'), { fails: [] })
  assert.deepEqual(judge(report({ judgement: { findings: [fresh] } }), 'threat'), { fails: [] })
  assert.deepEqual(judge(report({ judgement: { findings: [fresh] } }), 'new').fails, ['New endpoint: curl sent'])
  assert.deepEqual(judge(report({ judgement: { findings: [fresh, threat] } }), 'threat').fails, ['Memory: python read memory'])
  assert.deepEqual(judge(report({ judgement: { findings: [{ message: 'x' }] } }), 'threat').fails, ['finding: x'], 'no class is no excuse')
  assert.deepEqual(judge(report({ judgement: { findings_left_out: 3 } }), 'threat').fails, ['3 more findings'])
  const destinations = { steps: [{ destinations: [{ mark: 'DESTINATION_MARK_FIRST_SEEN', domain: 'x.example.test', port: 80 }, { mark: 'DESTINATION_MARK_KNOWN', domain: 'y' }] }], judgement: {} }
  assert.deepEqual(judge(report(destinations), 'new').fails, ['new destination: x.example.test:80'])
  assert.deepEqual(judge(report(destinations), 'threat').fails, [])
})

test('what could not be judged is not passed in silence', () => {
  assert.equal(judge(report({ unasked: 'away' }), 'threat').unknown, 'away')
  assert.equal(judge(report({}), 'threat').unknown, 'the server did not judge it')
  assert.equal(judge('<html>', 'threat').unknown, 'the agent\'s report cannot be read')
  assert.equal(judge('null', 'threat').unknown, 'the agent\'s report cannot be read')
  assert.deepEqual(judge(report({ gaps: { damage: ['detached'] } }), 'threat').fails, ['the agent was tampered with: detached'])
})

test('words of others are words', () => {
  for (const evil of ['::set-env name=X::y', '\n::error::x', '  ::warning::x', 'a##[error]b', '\u001b[31mx']) {
    const line = shown(evil)
    assert.ok(!/[\n\r\u001b]/.test(line) && !line.trimStart().startsWith('::') && !line.includes('##['), JSON.stringify(line))
  }
  assert.equal(escaped('<img src=x> [a](b) @all `c`'), '\\<img src\\=x\\> \\[a\\]\\(b\\) \\@\u200ball \\`c\\`')
})
