// What did not reach the server: which of it goes into an artifact, and when none is made.
import assert from 'node:assert/strict'
import { mkdtempSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'node:test'
import { artifactName, fit, select, whyNot } from '../src/events'
import { readInputs } from '../src/inputs'

const dir = mkdtempSync('/tmp/sallyport-events-test-')
const event = (name: string, content: unknown): string => {
  const path = join(dir, name)
  writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content))
  return path
}
const closed = event('private', { repository: { private: true } })
const open = event('public', { repository: { private: false } })
const hosted = { RUNNER_ENVIRONMENT: 'github-hosted', GITHUB_EVENT_PATH: closed }

test('where an artifact is made, and why not elsewhere', async () => {
  const server = { INPUT_SERVER: 'https://sallyport.example.test' }
  const always = { 'INPUT_UPLOAD-EVENTS': 'true' }
  for (const [given, no] of [
    [{ ...server, ...hosted }, undefined],
    [{ INPUT_NATS: 'nats://a:b@c', ...hosted }, undefined],
    [{ SALLYPORT_SERVER: 'https://sallyport.example.test', ...hosted }, undefined],
    // What everybody may read is not made without being asked for.
    [{ ...server, ...hosted, GITHUB_EVENT_PATH: open }, /the repository is public/],
    [{ ...server, ...hosted, GITHUB_EVENT_PATH: event('no repository', {}) }, /public, or does not say/],
    [{ ...server, ...hosted, GITHUB_EVENT_PATH: event('a word', { repository: { private: 'yes' } }) }, /public, or does not say/],
    [{ ...server, ...hosted, GITHUB_EVENT_PATH: event('broken', '{') }, /public, or does not say/],
    [{ ...server, RUNNER_ENVIRONMENT: 'github-hosted' }, /public, or does not say/],
    [{ ...server, ...hosted, RUNNER_ENVIRONMENT: 'self-hosted' }, /may run other jobs/],
    [{ ...server, GITHUB_EVENT_PATH: closed }, /may run other jobs/],
    [hosted, /no server is given/],
    [{ ...server, ...hosted, ...always, GITHUB_EVENT_PATH: open }, undefined],
    [{ ...server, ...always, RUNNER_ENVIRONMENT: 'self-hosted' }, undefined],
    [always, undefined],
    [{ ...server, ...hosted, 'INPUT_UPLOAD-EVENTS': 'false' }, /upload-events is false/],
    [{ ...server, ...hosted, 'INPUT_UPLOAD-EVENTS': 'sometimes' }, /upload-events is false/],
    [{ ...server, ...hosted, ...always, 'INPUT_DISABLE-TELEMETRY': 'true' }, /disable-telemetry/],
  ] as const) {
    const got = await whyNot(readInputs(given), given)
    no === undefined ? assert.equal(got, undefined, JSON.stringify(given)) : assert.match(got ?? '', no, JSON.stringify(given))
  }
})

test('a word that is none of the three is an error', () => {
  assert.match(readInputs({ 'INPUT_UPLOAD-EVENTS': 'sometimes' }).errors.join(), /upload-events is none of private, true, false/)
  assert.deepEqual(readInputs({ 'INPUT_UPLOAD-EVENTS': 'True' }).errors, [])
})

const name = (epoch: number, sequence: number, events = 5) => `${String(epoch).padStart(13, '0')}000000`.padStart(20, '0') + `-${String(sequence).padStart(20, '0')}-${events}.batch`

test('only batches of this job\'s agent: what others left in the spool is not for its readers', () => {
  const since = 1_700_000_000_000
  const lines = [
    `${name(since + 40, 6)} 300`, `${name(since + 40, 1)} 100`,
    `${name(since - 86_400_000, 1)} 100`, // an earlier job's
    `${name(since - 2_000, 1)} 100`,
    `${name(since - 500, 1)} 100`, // a clock that was set
    '../../etc/shadow 100', '-T.batch 100', `${name(since, 1)}.foreign 100`, `x${name(since, 1)} 100`, `${name(since, 1)} -1`, '.new-123 4', '',
  ]
  assert.deepEqual(select(lines.join('\n'), since), [
    { name: name(since - 500, 1), bytes: 100 }, { name: name(since + 40, 1), bytes: 100 }, { name: name(since + 40, 6), bytes: 300 },
  ])
})

test('what does not fit is left out from the end', () => {
  const files = [{ name: 'a', bytes: 4 }, { name: 'b', bytes: 4 }, { name: 'c', bytes: 4 }]
  assert.deepEqual(fit(files, 12), files)
  assert.deepEqual(fit(files, 11).map((f) => f.name), ['a', 'b'])
  assert.deepEqual(fit(files, 3), [])
  assert.deepEqual(fit([], 3), [])
})

test('names of artifacts: another one each time, of what GitHub allows', () => {
  const env = { GITHUB_JOB: 'build', GITHUB_RUN_ATTEMPT: '2' }
  assert.match(artifactName(env), /^sallyport-events-build-2-[0-9a-f]{10}$/)
  assert.notEqual(artifactName(env), artifactName(env))
  assert.match(artifactName({ GITHUB_JOB: '../a"b:c<d>e|f*g?h\r\n\\é', GITHUB_RUN_ATTEMPT: 'x/y' }), /^sallyport-events-[A-Za-z0-9_-]+-1-[0-9a-f]{10}$/)
  assert.ok(artifactName({ GITHUB_JOB: 'x'.repeat(500) }).length < 120)
  assert.match(artifactName({}), /^sallyport-events-job-1-/)
})
