// The stages as the runner runs them: the bundles in dist, a process each, with an agent
// that is a stub. The real one is tried in test/action_test.go.
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import test, { after } from 'node:test'

const stub = (dir: string, settings: object) => `#!${process.execPath}
const fs = require('fs'), net = require('net'), { spawn } = require('child_process')
const dir = ${JSON.stringify(dir)}, o = ${JSON.stringify(settings)}
const [what, ...args] = process.argv.slice(2)
const socket = args[args.indexOf('--socket') + 1]
const status = { agent_id: 'vm', version: 'v1', pid: 0, armed: true, connected: true, events_seen: 7, batches_waiting: 0, spool: '/spool', ...o.status }
fs.appendFileSync(dir + '/calls', JSON.stringify({ what, args, environment: process.env, stdin: what === 'start' ? fs.readFileSync(0, 'utf8') : '' }) + '\\n')
if (what === 'serve') {
  fs.mkdirSync(require('path').dirname(socket), { recursive: true })
  status.pid = process.pid; fs.rmSync(socket, { force: true })
  if (o.endsIn) setTimeout(() => process.exit(), o.endsIn)
  net.createServer((c) => { c.on('error', () => {}); c.on('data', (q) => { const use = String(q).includes('"use"'); if (use) fs.appendFileSync(dir + '/calls', JSON.stringify({ what: 'use', args: [], environment: {}, stdin: '' }) + '\\n'); if (use && o.endsSoon) setTimeout(() => process.exit(), 300); setTimeout(() => c.end(JSON.stringify(use ? o.use ?? {} : { status }) + '\\n'), o.slow ?? 0) }) }).listen(socket, () => { fs.writeFileSync(dir + '/pid.new', String(process.pid)); fs.renameSync(dir + '/pid.new', dir + '/pid') })
  setTimeout(() => process.exit(), 60000)
} else if (what === 'start') {
  if (o.startFails) { console.error(o.startFails.says); process.exit(o.startFails.code) }
  spawn(process.execPath, [__filename, 'serve', '--socket', socket], { detached: true, stdio: 'ignore' }).unref()
  const wait = () => fs.existsSync(dir + '/pid') ? console.log(JSON.stringify({ ...status, started: o.started ?? true, pid: Number(fs.readFileSync(dir + '/pid')) })) : setTimeout(wait, 5)
  wait()
} else if (what === 'stop') {
  const pid = Number(fs.readFileSync(dir + '/pid'))
  const goes_on = args.includes('--unless-used') && o.used === true
  if (o.stopFails) { console.error(o.stopFails); process.exit(1) }
  if (!goes_on) { process.kill(pid) }
  console.log(JSON.stringify({ ...status, pid, ...(goes_on ? { goes_on } : {}), ...o.last }))
} else if (what === 'hook' && o.hookHangs) {
  setTimeout(() => process.exit(), 30000)
} else if (what === 'report') {
  const r = o.report ?? { markdown: '### what it did', json: { judgement: {} } }
  if (r.code) { console.error(r.says); process.exit(r.code) }
  console.log(args.includes('--json') ? JSON.stringify(r.json) : r.markdown)
}
`

const left: string[] = []
after(() => {
  for (const dir of left) {
    try { process.kill(Number(readFileSync(join(dir, 'pid')))) } catch { /* it has ended */ }
  }
})

class Job {
  dir = mkdtempSync('/tmp/sallyport-action-')
  agent = join(this.dir, 'agent')
  state: Record<string, string> = {}

  constructor(public inputs: Record<string, string> = {}, settings: object = {}, public environment: Record<string, string> = {}) {
    left.push(this.dir)
    writeFileSync(this.agent, stub(this.dir, settings), { mode: 0o755 })
  }

  /** stage runs one, as root unless it is given a user. */
  stage(name: 'pre' | 'main' | 'post', more: { before?: string; uid?: number; dist?: string; below?: string[] } = {}): { code: number | null; out: string } {
    const file = (n: string) => { const p = join(this.dir, n); writeFileSync(p, existsSync(p) ? readFileSync(p) : '', { mode: 0o666 }); chmodSync(p, 0o666); return p }
    writeFileSync(join(this.dir, 'state-file'), '')
    const env: NodeJS.ProcessEnv = {
      PATH: process.env['PATH'], GITHUB_STATE: file('state-file'), GITHUB_STEP_SUMMARY: file('summary'),
      SALLYPORT_SOCKET: join(this.dir, 'run/agent.sock'), SALLYPORT_STATE: join(this.dir, 'var'), 'INPUT_AGENT-PATH': this.agent, ...this.environment,
    }
    for (const [k, v] of Object.entries(this.inputs)) env[`INPUT_${k.toUpperCase()}`] = v
    for (const [k, v] of Object.entries(this.state)) env[`STATE_${k}`] = v
    const dist = resolve(more.dist ?? 'dist')
    const args = more.before === undefined ? [join(dist, `${name}.js`)] : ['-e', `${more.before}; require(${JSON.stringify(join(dist, 'action.js'))}).run('${name}')`]
    const [program = '', ...words] = [...more.below ?? [], process.execPath, ...args]
    const done = spawnSync(program, words, { env, encoding: 'utf8', cwd: this.dir, timeout: 60_000, ...(more.uid === undefined ? {} : { uid: more.uid, gid: more.uid }) })
    for (const m of readFileSync(join(this.dir, 'state-file'), 'utf8').matchAll(/^(\w+)<<(\S+)\r?\n([\s\S]*?)\r?\n\2\r?$/gm)) {
      this.state[m[1] ?? ''] = m[3] ?? ''
    }
    return { code: done.status, out: done.stdout + done.stderr }
  }

  summary(): string { return readFileSync(join(this.dir, 'summary'), 'utf8') }

  calls(): { what: string; args: string[]; environment: Record<string, string>; stdin: string }[] {
    const path = join(this.dir, 'calls')
    return existsSync(path) ? readFileSync(path, 'utf8').trim().split('\n').map((l) => JSON.parse(l)) : []
  }
}

test('from start to end; secrets are masked, and go neither by arguments nor by environment', () => {
  const job = new Job({ nats: 'nats://agent:swordfish@127.0.0.1:4222' }, {}, { DEPLOY_KEY: 'hunter2', SALLYPORT_AGENT_ID: 'vm' })
  const pre = job.stage('pre')
  assert.equal(pre.code, 0, pre.out)
  assert.match(pre.out, /::add-mask::swordfish/)
  const main = job.stage('main')
  assert.match(main.out, /Sallyport watches this job/)
  assert.match(main.out, /server: connected/)
  const post = job.stage('post')
  assert.equal(post.code, 0, post.out)
  assert.match(job.summary(), /### what it did/)
  const calls = job.calls()
  const what = calls.map((c) => c.what).filter((w) => w !== 'serve')
  // The hook and the report run side by side.
  assert.deepEqual([what[0], what.slice(1, -1).sort(), what[what.length - 1]], ['start', ['hook', 'report'], 'stop'])
  for (const c of calls.filter((c) => c.what !== 'serve')) {
    assert.ok(!/swordfish|hunter2/.test(JSON.stringify([c.args, c.environment])), c.what)
  }
  const given = JSON.parse(calls[0]?.stdin ?? '') as Record<string, string>
  assert.equal(given['SALLYPORT_NATS'], 'nats://agent:swordfish@127.0.0.1:4222')
  assert.equal(given['SALLYPORT_AGENT_ID'], 'vm')
  assert.ok(!('DEPLOY_KEY' in given))
  assert.ok(!/swordfish/.test(JSON.stringify(job.state)))
})

test('the token of OIDC goes to the agent only with a server, and never into the log in clear', () => {
  const oidc = { ACTIONS_ID_TOKEN_REQUEST_URL: 'https://token.example.test/', ACTIONS_ID_TOKEN_REQUEST_TOKEN: 'tok-swordfish' }
  const run = { GITHUB_REPOSITORY: 'acme/shop', GITHUB_RUN_ID: '7', GITHUB_RUN_ATTEMPT: '2' }
  const paths = (j: Job) => ({ SALLYPORT_SOCKET: join(j.dir, 'run/agent.sock'), SALLYPORT_STATE: join(j.dir, 'var') })
  const job = new Job({ server: 'https://sallyport.example.test' }, {}, { ...oidc, ...run, GITHUB_TOKEN: 'ghs_swordfish', SALLYPORT_NATS: 'nats://other.example.test', SALLYPORT_NATS_CA: '/ca' })
  assert.ok(!/tok-swordfish/.test(job.stage('pre').out.replace('::add-mask::tok-swordfish', '')))
  // All that lets the job in, nothing that the agent refuses beside it.
  assert.deepEqual(JSON.parse(job.calls()[0]?.stdin ?? ''), { ...oidc, ...run, SALLYPORT_SERVER: 'https://sallyport.example.test', ...paths(job) })
  const variable = new Job({}, {}, { ...oidc, ...run, SALLYPORT_SERVER: 'https://sallyport.example.test' })
  variable.stage('pre')
  assert.deepEqual(JSON.parse(variable.calls()[0]?.stdin ?? ''), { ...oidc, ...run, SALLYPORT_SERVER: 'https://sallyport.example.test', ...paths(variable) })
  const without = new Job({}, {}, oidc)
  assert.match(without.stage('pre').out, /neither server nor nats/)
  assert.ok(!without.calls()[0]?.stdin.includes('tok-swordfish'))
  const unable = new Job({ server: 'https://sallyport.example.test' })
  assert.match(unable.stage('pre').out, /::warning::.*id-token: write/)
})

test('disable-telemetry: no server is told to the agent', () => {
  const job = new Job({ 'nats': 'nats://agent:swordfish@127.0.0.1:4222', 'disable-telemetry': 'true' })
  job.stage('pre')
  assert.deepEqual(JSON.parse(job.calls()[0]?.stdin ?? ''), {
    SALLYPORT_NATS: 'nats://sallyport.invalid:4222', SALLYPORT_SOCKET: join(job.dir, 'run/agent.sock'), SALLYPORT_STATE: join(job.dir, 'var'),
  })
})

test('block is asked for: a warning, once, and the job goes on', () => {
  const job = new Job({ 'egress-policy': 'block', 'allowed-endpoints': 'example.test:443 evil*.test' })
  const pre = job.stage('pre')
  assert.equal(pre.code, 0)
  assert.match(pre.out, /::warning::Sallyport: not enforced: egress-policy: block/)
  assert.match(pre.out, /::warning::Sallyport: allowed-endpoints: "evil\*\.test"/)
  assert.ok(!/::warning/.test(job.stage('main').out))
})

test('a digest that is not the one asked for: nothing is started, and the job goes on unless told otherwise', () => {
  const job = new Job({ 'agent-sha256': 'a'.repeat(64) })
  const pre = job.stage('pre')
  assert.equal(pre.code, 0)
  assert.match(pre.out, /::error::Sallyport: this job is not watched: .* has the digest .*, not a{64}: it was not started/)
  assert.match(job.stage('main').out, /not watched/)
  assert.equal(job.stage('post').code, 0)
  assert.match(job.summary(), /This job was not watched/)
  assert.deepEqual(job.calls(), [])
  assert.equal(new Job({ 'agent-sha256': 'a'.repeat(64), 'require-agent': 'true' }).stage('pre').code, 1)
})

test('the agent cannot start: the reason is said', () => {
  const job = new Job({}, { startFails: { code: 3, says: 'it needs CAP_BPF\n::set-env name=X::y' } })
  const pre = job.stage('pre')
  assert.equal(pre.code, 0)
  assert.match(pre.out, /this kernel, or the privileges here, cannot run the agent: it needs CAP_BPF/)
  assert.ok(!/^\s*::set-env/m.test(pre.out))
})

test('no release, no path: it says what to give', () => {
  const job = new Job({ 'agent-path': '' })
  assert.match(job.stage('pre').out, /no agent has been released/)
})

test('a user who may not sudo', () => {
  const job = new Job()
  const dist = join(job.dir, 'dist')
  cpSync('dist', dist, { recursive: true })
  chmodSync(job.dir, 0o755)
  const pre = job.stage('pre', { uid: 65534, dist })
  assert.equal(pre.code, 0)
  assert.match(pre.out, /::error::Sallyport: this job is not watched: .*(password is required|not allowed|no sudo)/)
  assert.deepEqual(job.calls(), [])
})

test('Windows and macOS: it says that it does not observe there, and succeeds', () => {
  for (const [os, name] of [['win32', 'Windows'], ['darwin', 'macOS']] as const) {
    const job = new Job()
    const before = `Object.defineProperty(process, 'platform', { value: '${os}' })`
    const pre = job.stage('pre', { before })
    assert.equal(pre.code, 0)
    assert.match(pre.out, new RegExp(`::notice::Sallyport: Sallyport does not observe jobs on ${name}`))
    assert.equal(job.stage('main', { before }).code, 0)
    assert.equal(job.stage('post', { before }).code, 0)
    assert.match(job.summary(), new RegExp(name))
    assert.deepEqual(job.calls(), [])
  }
})

test('a job in a container: it says what is not possible and what is, and succeeds', () => {
  const job = new Job()
  // What a container engine makes, of which the action looks at the PID namespace.
  const below = ['unshare', '--pid', '--fork', '--mount-proc', '--mount']
  const pre = job.stage('pre', { below })
  assert.equal(pre.code, 0)
  assert.match(pre.out, /::notice::Sallyport: this job runs in a container, from where the agent cannot see the machine.*install the agent on the machine/)
  assert.match(job.stage('main', { below }).out, /This job is not watched: this job runs in a container/)
  assert.equal(job.stage('post', { below }).code, 0)
  assert.match(job.summary(), /This job was not watched: this job runs in a container/)
  assert.deepEqual(job.calls(), [])
  const strict = new Job({ 'require-agent': 'true' })
  assert.equal(strict.stage('pre', { below }).code, 1)
})

test('an action without a pre starts in its main', () => {
  const job = new Job()
  const main = job.stage('main')
  assert.match(main.out, /the agent starts with this step/)
  assert.match(main.out, /watches this job/)
  job.stage('post')
  assert.match(job.summary(), /### what it did/)
})

test('an agent that runs already is neither started nor ended', () => {
  const first = new Job()
  first.stage('pre')
  const job = new Job({}, {}, { SALLYPORT_SOCKET: join(first.dir, 'run/agent.sock') })
  assert.match(job.stage('pre').out, /An agent runs on this machine already/)
  job.stage('post')
  assert.deepEqual(job.calls().map((c) => c.what), ['report'])
  // Where it sends is not this job's to say.
  const quiet = new Job({ 'disable-telemetry': 'true' }, {}, { SALLYPORT_SOCKET: join(first.dir, 'run/agent.sock') })
  assert.match(quiet.stage('pre').out, /::warning::Sallyport: not enforced: disable-telemetry: the agent of this machine/)
  assert.equal(process.kill(Number(readFileSync(join(first.dir, 'pid'))), 0), true)
})

test('runners that share a machine: an agent is not taken from another job, nor from a run that it does not speak for', () => {
  const run = { GITHUB_REPOSITORY: 'acme/shop', GITHUB_RUN_ID: '7', GITHUB_RUN_ATTEMPT: '1' }
  for (const [settings, own, says, used] of [
    [{ status: { users: 1 }, used: true }, run, /An agent runs on this machine already/, true],
    [{ status: { users: 1, run: 'acme/shop/7/1' }, used: true }, run, /An agent runs on this machine already/, true],
    [{ status: { users: 1, run: 'acme/shop/7/1' } }, { ...run, GITHUB_RUN_ATTEMPT: '2' }, /::error::.*not watched: .*speaks for the run acme\/shop\/7\/1 alone/, false],
    [{ status: { users: 1 }, use: { error: 'no job' } }, run, /::error::.*not watched: .*does not see this one/, true],
  ] as const) {
    const first = new Job({}, settings, run)
    first.stage('pre')
    const second = new Job({}, {}, { ...own, SALLYPORT_SOCKET: join(first.dir, 'run/agent.sock') })
    assert.match(second.stage('pre').out, says)
    assert.equal(first.calls().some((c) => c.what === 'use'), used)
    assert.equal(second.calls().some((c) => c.what === 'start'), false)
    const post = first.stage('post')
    const goesOn = 'used' in settings
    assert.equal(/Another job on this machine counts on the agent/.test(post.out), goesOn, post.out)
    assert.equal(/has ended/.test(post.out), !goesOn, post.out)
  }
})

test('the agent of a job that is about to end: it is waited for, and another one started', () => {
  const first = new Job({}, { status: { users: 1 }, use: { error: 'it has been stopped' }, endsSoon: true })
  first.stage('pre')
  const second = new Job({}, {}, { SALLYPORT_SOCKET: join(first.dir, 'run/agent.sock') })
  assert.match(second.stage('pre').out, /The agent watches/)
  assert.equal(first.calls().some((c) => c.what === 'use'), true)
  assert.deepEqual(second.calls().map((c) => c.what).filter((w) => w !== 'serve'), ['start'])
})

test('an agent that nobody counts on any more, and that still sends what it saw: it is waited for', () => {
  const first = new Job({}, { status: { ends: true }, endsIn: 5000 })
  first.stage('pre')
  const second = new Job({}, {}, { SALLYPORT_SOCKET: join(first.dir, 'run/agent.sock') })
  assert.match(second.stage('pre').out, /The agent watches/)
  assert.deepEqual(second.calls().map((c) => c.what).filter((w) => w !== 'serve'), ['start'])
})

test('another job started its agent at the same moment: it is used, and not ended', () => {
  const job = new Job({}, { started: false, status: { users: 2 } })
  assert.match(job.stage('pre').out, /An agent runs on this machine already/)
  job.stage('post')
  assert.deepEqual(job.calls().map((c) => c.what).filter((w) => w !== 'serve'), ['start', 'use', 'report'])
})

test('an agent that was killed: said, and a failure where the job is to fail for threats', () => {
  for (const [failOn, code] of [['never', 0], ['threat', 1]] as const) {
    const job = new Job({ 'fail-on': failOn })
    job.stage('pre')
    process.kill(Number(readFileSync(join(job.dir, 'pid'))), 'SIGKILL')
    const post = job.stage('post')
    assert.equal(post.code, code, post.out)
    assert.match(post.out, /::error::Sallyport: the agent did not run any more/)
    assert.match(job.summary(), /Not complete: the agent did not run any more/)
  }
})

test('somebody put another agent in its place', () => {
  const other = new Job()
  other.stage('pre')
  const job = new Job({ 'fail-on': 'threat' })
  job.stage('pre')
  const running = JSON.parse(job.state['agent'] ?? '') as { running: { pid: number; socket: string } }
  process.kill(running.running.pid)
  running.running.socket = join(other.dir, 'run/agent.sock')
  job.state['agent'] = JSON.stringify(running)
  const post = job.stage('post')
  assert.equal(post.code, 1)
  assert.match(post.out, /another agent took the place/)
})

test('fail-on', () => {
  const json = { judgement: { findings: [{ policy: { title: 'New\n::error::endpoint', class: 'POLICY_CLASS_NEW_BEHAVIOUR' }, message: 'curl sent' }] } }
  for (const [failOn, code] of [['never', 0], ['threat', 0], ['new', 1]] as const) {
    const job = new Job({ 'fail-on': failOn }, { report: { markdown: '### x', json } })
    job.stage('pre')
    const post = job.stage('post')
    assert.equal(post.code, code, `${failOn}: ${post.out}`)
    assert.ok(!/^::error::endpoint/m.test(post.out))
  }
  const away = new Job({ 'fail-on': 'threat' }, { report: { markdown: '### x', json: { unasked: 'there is no connection' } } })
  away.stage('pre')
  const post = away.stage('post')
  assert.equal(post.code, 0)
  assert.match(post.out, /::warning::.*could not be told: there is no connection/)
})

const threat = { markdown: '### what it did', json: { judgement: { findings: [{ policy: { title: 'Stolen', class: 'POLICY_CLASS_THREAT' }, message: 'curl sent' }] } } }

test('what a job does to the file of its summary does not keep it from failing', () => {
  for (const path of ['gone', 'pipe']) {
    const job = new Job({ 'fail-on': 'threat' }, { report: threat })
    if (path === 'pipe') { spawnSync('mkfifo', [join(job.dir, path)]) }
    job.stage('pre')
    job.environment = { GITHUB_STEP_SUMMARY: join(job.dir, path) }
    const post = job.stage('post')
    assert.equal(post.code, 1, post.out)
    assert.match(post.out, /::error::Sallyport: Stolen: curl sent/)
    assert.match(post.out, /::warning::Sallyport: the summary cannot be written/)
  }
})

test('a long report fails the job, too', () => {
  const findings = Array.from({ length: 50 }, () => ({ policy: { title: 'Stolen', class: 'POLICY_CLASS_THREAT' }, message: '\u0001'.repeat(15_000) }))
  const job = new Job({ 'fail-on': 'threat' }, { report: { markdown: '### x', json: { judgement: { findings } } } })
  job.stage('pre')
  const post = job.stage('post')
  assert.equal(post.code, 1, post.out.slice(0, 1000))
})

test('an agent that does not end in order: what it saw is told, and fails the job where it is to', () => {
  for (const [failOn, code] of [['never', 0], ['threat', 1]] as const) {
    const job = new Job({ 'fail-on': failOn }, { report: threat, stopFails: 'it <b>hangs' })
    job.stage('pre')
    const post = job.stage('post')
    assert.equal(post.code, code, post.out)
    assert.match(post.out, /::error::Sallyport: the agent did not end in order: stop the agent: it <b>hangs/)
    assert.match(job.summary(), /### what it did[^]*Not complete: the agent did not end in order: stop the agent\\: it \\<b\\>hangs/)
    assert.equal(/Stolen/.test(post.out), failOn === 'threat')
  }
})

test('an agent that takes its time to answer is not taken for gone, nor for one that does not see the job', () => {
  const first = new Job({ 'fail-on': 'threat' }, { slow: 1300, status: { users: 1 } })
  first.stage('pre')
  const second = new Job({}, {}, { SALLYPORT_SOCKET: join(first.dir, 'run/agent.sock') })
  assert.match(second.stage('pre').out, /An agent runs on this machine already/)
  assert.equal(first.stage('post').code, 0)
  assert.match(first.summary(), /### what it did/)
})

test('a program of root\'s that hangs, and that this user may not end, does not hold the job up', () => {
  const job = new Job({}, { hookHangs: true, status: { connected: false } })
  job.stage('pre')
  const before = "require('child_process').ChildProcess.prototype.kill = function () { this.emit('error', new Error('kill EPERM')); return false }"
  const began = Date.now()
  assert.match(job.stage('post', { before }).out, /has ended/)
  assert.ok(Date.now() - began < 15_000)
})

test('an older agent, and one with nothing to tell', () => {
  for (const [report, says] of [
    [{ code: 2, says: 'there is no argument "report"' }, /No report: this version of the agent makes no reports/],
    [{ code: 1, says: 'no such <b>job</b>' }, /No report: no such \\<b\\>job/],
  ] as const) {
    const job = new Job({}, { report })
    job.stage('pre')
    assert.equal(job.stage('post').code, 0)
    assert.match(job.summary(), says)
    assert.ok(job.calls().some((c) => c.what === 'stop'))
  }
})

test('the server was away: what waits is said, with where', () => {
  const job = new Job({}, { last: { connected: false, not_connected: 'not connected: refused\n::error::x', batches_waiting: 3, events_lost: { spool: 2 } } })
  job.stage('pre')
  const post = job.stage('post')
  assert.equal(post.code, 0)
  assert.match(post.out, /::warning::Sallyport: 3 batches of events did not reach the server \(not connected: refused/)
  assert.ok(!/^::error/m.test(post.out))
  assert.match(job.summary(), /3 batches of events did not reach/)
  assert.match(job.summary(), /Events lost on this machine: spool 2/)
})

/** spooled is a job whose agent has left batches in its spool, beside what else its folder holds. */
function spooled(inputs: Record<string, string>, environment: Record<string, string>): { job: Job; spool: string } {
  const dir = mkdtempSync('/tmp/sallyport-action-')
  const spool = join(dir, 'spool')
  mkdirSync(spool)
  const job = new Job({ nats: 'nats://agent:swordfish@127.0.0.1:1', ...inputs }, { status: { spool, agent_id: 'vm' }, last: { connected: false, not_connected: 'refused', batches_waiting: 2 } },
    { RUNNER_TEMP: dir, GITHUB_REPOSITORY: 'acme/shop', GITHUB_RUN_ID: '7', ...environment })
  assert.match(job.stage('pre').out, /The agent watches/)
  for (const [epoch, name] of [[BigInt(Date.now()) * 1_000_000n, 'one'], [1n, 'of an earlier job']] as const) {
    writeFileSync(join(spool, `${String(epoch).padStart(20, '0')}-${'1'.padStart(20, '0')}-3.batch`), name, { mode: 0o600 })
  }
  return { job, spool }
}

/** results is a service for artifacts that refuses. */
function results(): { url: string; token: string } {
  const dir = mkdtempSync('/tmp/sallyport-action-')
  left.push(dir)
  const code = `const s = require('http').createServer((q, r) => r.writeHead(403, { 'content-type': 'application/json' }).end('{"msg":"no permission::error::x"}')).listen(0, '127.0.0.1', () => { const fs = require('fs'); fs.writeFileSync('${dir}/new', String(s.address().port)); fs.writeFileSync('${dir}/pid', String(process.pid)); fs.renameSync('${dir}/new', '${dir}/port') }); setTimeout(() => process.exit(), 60000)`
  spawn(process.execPath, ['-e', code], { detached: true, stdio: 'ignore' }).unref()
  for (let i = 0; i < 500 && !existsSync(join(dir, 'port')); i++) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20)
  const part = (o: object) => Buffer.from(JSON.stringify(o)).toString('base64url')
  return { url: `http://127.0.0.1:${readFileSync(join(dir, 'port'), 'utf8')}/`, token: `${part({})}.${part({ scp: 'Actions.Results:ce7f54c7-61c7-4aae-887f-30da475f5f1a:ca395085-040a-526b-2ce8-bdc85f692774' })}.x` }
}

test('the server was away, and no artifact comes of it: why is said, and the job goes on', () => {
  const refusing = results()
  const privately = join(mkdtempSync('/tmp/sallyport-action-'), 'event.json')
  writeFileSync(privately, '{"repository":{"private":true}}')
  for (const [inputs, environment, says] of [
    [{}, {}, /not uploaded: this machine may run other jobs/],
    [{ 'upload-events': 'false' }, {}, /not uploaded: upload-events is false/],
    // As it is by default, in a private repository on GitHub's runner.
    [{}, { RUNNER_ENVIRONMENT: 'github-hosted', GITHUB_EVENT_PATH: privately }, /not uploaded: the upload failed: Unable/],
    [{ 'upload-events': 'true' }, {}, /not uploaded: the upload failed: Unable to get the ACTIONS_RUNTIME_TOKEN/],
    [{ 'upload-events': 'true' }, { GITHUB_SERVER_URL: 'https://git.example.test', ACTIONS_RUNTIME_TOKEN: refusing.token, ACTIONS_RESULTS_URL: refusing.url }, /not uploaded: the upload failed: .*GHES/],
    [{ 'upload-events': 'true' }, { ACTIONS_RUNTIME_TOKEN: refusing.token, ACTIONS_RESULTS_URL: refusing.url }, /not uploaded: the upload failed: .*no permission/],
  ] as const) {
    const { job, spool } = spooled(inputs, environment)
    const post = job.stage('post')
    assert.equal(post.code, 0, post.out)
    assert.match(post.out, says)
    assert.match(post.out, /::warning::Sallyport: 2 batches of events did not reach the server \(refused\); they are in .*\/spool on this machine/)
    assert.ok(!/^::error|^\s*::error/m.test(post.out), post.out)
    assert.match(job.summary(), /not uploaded\\: /)
    assert.ok(!/spool send/.test(job.summary()))
    // Nothing is left of the attempt but the spool.
    assert.deepEqual(readdirSync(join(spool, '..')), ['spool'])
    assert.equal(readdirSync(spool).length, 2)
  }
})

test('nothing waits: nothing is read or uploaded, and the library is not loaded', () => {
  const job = new Job({ 'nats': 'nats://agent:swordfish@127.0.0.1:1', 'upload-events': 'true' })
  const dist = join(job.dir, 'dist')
  cpSync('dist', dist, { recursive: true })
  writeFileSync(join(dist, 'upload.js'), 'require("fs").writeFileSync(__dirname + "/loaded", "")')
  job.stage('pre', { dist })
  const post = job.stage('post', { dist })
  assert.equal(post.code, 0, post.out)
  assert.ok(!/upload|artifact/.test(post.out + job.summary()))
  assert.ok(!existsSync(join(dist, 'loaded')))
})

test('summary: false', () => {
  const job = new Job({ summary: 'false' })
  job.stage('pre')
  job.stage('post')
  assert.equal(job.summary(), '')
})

test('a socket that somebody else than root made is no agent', () => {
  const job = new Job()
  const dir = join(job.dir, 'run')
  mkdirSync(dir)
  chmodSync(job.dir, 0o755)
  chmodSync(dir, 0o777)
  const made = spawnSync('python3', ['-c', `import socket; s = socket.socket(socket.AF_UNIX); s.bind(${JSON.stringify(join(dir, 'agent.sock'))}); s.listen()`], { uid: 65534, gid: 65534 })
  assert.equal(made.status, 0)
  assert.ok(!/runs on this machine already/.test(job.stage('pre').out))
})
