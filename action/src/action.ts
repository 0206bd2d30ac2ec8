// The three stages of the action: start the agent, show it, end it.
import * as core from '@actions/core'
import { stat } from 'node:fs/promises'
import { isAbsolute } from 'node:path'
import { complete, defaultSocket, defaultState, ended as hasEnded, report, start, status, stop, use, type Running, type Status } from './agent'
import { keep, keptDays, type Kept } from './events'
import { install, onMachine, wanted } from './binary'
import { download } from './download'
import { readInputs, type Inputs } from './inputs'
import { findSudo, platform, whyNot } from './platform'
import { judge } from './verdict'

export type Stage = 'pre' | 'main' | 'post'

/** run runs a stage. A job goes on whatever happens here, unless its workflow says otherwise. */
export async function run(stage: Stage): Promise<void> {
  const inputs = readInputs(process.env)
  for (const s of [...inputs.secrets, process.env['ACTIONS_ID_TOKEN_REQUEST_TOKEN'] ?? '']) {
    if (s !== '') {
      core.setSecret(s)
    }
  }
  try {
    switch (stage) {
      case 'pre':
        await begin(inputs, true)
        return
      case 'main':
        return await show(inputs)
      case 'post':
        return await end(inputs)
    }
  } catch (e) {
    complain(inputs, (e as Error).message)
  }
}

/** What a stage leaves for the next ones. Only the runner can write it. */
const stateName = 'agent'

type Left = { running: Running } | { notWatched: string }

function left(): Left | undefined {
  const text = core.getState(stateName)
  return text === '' ? undefined : JSON.parse(text) as Left
}

function leave(l: Left): void {
  core.saveState(stateName, JSON.stringify(l))
}

function complain(inputs: Inputs, message: string): void {
  const text = `Sallyport: ${message}`
  inputs.requireAgent ? core.setFailed(text) : core.error(text)
}

async function begin(inputs: Inputs, first: boolean): Promise<Left> {
  for (const w of inputs.warnings) {
    core.warning(`Sallyport: ${w}`)
  }
  for (const e of inputs.errors) {
    complain(inputs, e)
  }
  for (const n of inputs.notes) {
    core.notice(`Sallyport: ${n}`)
  }
  let l: Left
  try {
    l = await watch(inputs, first)
  } catch (e) {
    l = { notWatched: (e as Error).message }
    complain(inputs, `this job is not watched: ${l.notWatched}`)
  }
  leave(l)
  return l
}

/** watch finds or starts an agent. */
async function watch(inputs: Inputs, first: boolean): Promise<Left> {
  const socket = setting('SALLYPORT_SOCKET', defaultSocket)
  const state = setting('SALLYPORT_STATE', defaultState)
  const here = platform(process.env)
  const there = here.os === 'linux' ? await status(socket) : undefined
  const no = there === undefined ? whyNot(here, inputs.deployOnSelfHosted) : undefined
  if (no !== undefined) {
    inputs.requireAgent ? core.setFailed(`Sallyport: ${no}`) : core.notice(`Sallyport: ${no}`)
    return { notWatched: no }
  }
  if (there !== undefined) {
    // Its report needs a program that asks; nothing is started or ended with it. That of the
    // machine has the agent's own version, and costs no download and no sudo.
    let program = inputs.agentPath === '' ? await onMachine() : ''
    if (program === '') {
      program = await programOf(inputs, here.arch, `${state}-bin`, here.root).catch((e: Error) => {
        core.info(`There will be no summary: ${shown(e.message)}`)
        return ''
      })
    }
    return await join(inputs, there, socket, program, first) ?? watch(inputs, first)
  }
  const sudo = findSudo(here.root)
  const program = await programOf(inputs, here.arch, `${state}-bin`, here.root)
  const since = Date.now()
  const s = await start(program, sudo, socket, state, variables(inputs), first)
  if (!s.started) {
    // That of a job which began at the same time.
    return await join(inputs, s, socket, program, first) ?? watch(inputs, first)
  }
  core.info(`The agent watches: version ${shown(s.version)}, process ${s.pid}.`)
  return { running: { socket, program, sudo, ours: true, pid: s.pid, since, first: s } }
}

/**
 * join has this job watched by an agent that was there before it; undefined if that was about to
 * end, and has.
 */
async function join(inputs: Inputs, s: Status, socket: string, program: string, first: boolean): Promise<Left | undefined> {
  const own = ['GITHUB_REPOSITORY', 'GITHUB_RUN_ID', 'GITHUB_RUN_ATTEMPT'].map((n) => process.env[n] ?? '').join('/')
  if (s.run && s.run !== own) {
    throw new Error(`an agent runs on this machine already, which another job has started, and which speaks for the run ${shown(s.run)} alone; ` +
      'runners that share a machine need the agent on the machine (docs/self-hosted.md)')
  }
  if (s.ends === true || (s.users && !await use(socket, first))) {
    if (await hasEnded(socket, s.pid)) {
      return undefined
    }
    throw new Error(s.ends === true ? 'the agent of another job on this machine is about to end, and takes too long to'
      : 'an agent runs on this machine already, which another job has started, and which does not see this one')
  }
  core.info(`An agent runs on this machine already: version ${shown(s.version)}, process ${s.pid}.`)
  if (inputs.disableTelemetry) {
    core.warning('Sallyport: not enforced: disable-telemetry: the agent of this machine sends what it sees where it was told to when it was started')
  } else if (inputs.server !== '' || inputs.nats !== '') {
    core.info('It sends what it sees where it was told to when it was started, not to what this step names.')
  }
  return { running: { socket, program, sudo: [], ours: false, pid: s.pid } }
}

async function programOf(inputs: Inputs, arch: string, folder: string, root: boolean): Promise<string> {
  const w = wanted(inputs, arch)
  let file: string
  if ('path' in w) {
    file = w.path
  } else {
    file = await download(w.url, w.version, arch, w.sha256)
  }
  return install(file, w.sha256, folder, findSudo(root))
}

/** setting is a path from the workflow's environment. */
function setting(name: string, otherwise: string): string {
  const value = process.env[name] ?? ''
  return isAbsolute(value) ? value : otherwise
}

/** Nobody has this name (RFC 6761): an agent without a server reaches none by accident. */
const nowhere = 'nats://sallyport.invalid:4222'

/** variables are what the agent gets, beside the process list: secrets are among them. */
function variables(inputs: Inputs): Record<string, string> {
  const v: Record<string, string> = {}
  for (const [name, value] of Object.entries(process.env)) {
    if (/^SALLYPORT_[A-Z0-9_]+$/.test(name) && name !== 'SALLYPORT_READY_FD' && value !== undefined) {
      v[name] = value
    }
  }
  const drop = (pattern: RegExp) => { for (const name of Object.keys(v)) if (pattern.test(name)) delete v[name] }
  if (inputs.disableTelemetry) {
    drop(/^SALLYPORT_(SERVER|NATS)/)
    v['SALLYPORT_NATS'] = nowhere
    core.info('Nothing is sent to a server (disable-telemetry).')
    return v
  }
  // The agent takes one of the two; an input counts more than a variable.
  if (inputs.nats !== '') {
    drop(/^SALLYPORT_SERVER/)
    v['SALLYPORT_NATS'] = inputs.nats
  }
  if (inputs.server !== '') {
    drop(/^SALLYPORT_NATS/)
    v['SALLYPORT_SERVER'] = inputs.server
  }
  if (v['SALLYPORT_SERVER']) {
    for (const name of ['ACTIONS_ID_TOKEN_REQUEST_URL', 'ACTIONS_ID_TOKEN_REQUEST_TOKEN', 'GITHUB_REPOSITORY', 'GITHUB_RUN_ID', 'GITHUB_RUN_ATTEMPT']) {
      v[name] = process.env[name] ?? ''
    }
    if (v['ACTIONS_ID_TOKEN_REQUEST_TOKEN'] === '' || v['ACTIONS_ID_TOKEN_REQUEST_URL'] === '') {
      core.warning('Sallyport: the job cannot prove to the server who it is: it needs "permissions: id-token: write"')
    }
  }
  if (!v['SALLYPORT_NATS'] && !v['SALLYPORT_SERVER']) {
    v['SALLYPORT_NATS'] = nowhere
    core.notice('Sallyport: neither server nor nats is given: what the job does is told in its summary alone')
  }
  return v
}

async function show(inputs: Inputs): Promise<void> {
  const socket = setting('SALLYPORT_SOCKET', defaultSocket)
  let l = left()
  // Some runners tell only the last stage what the first one left: an agent that answers is
  // then either the first stage's or the machine's, and in neither case started here.
  if (l === undefined && await status(socket) !== undefined) {
    l = { running: { socket, program: '', sudo: [], ours: false, pid: 0 } }
  }
  if (l === undefined) {
    // A local action has no pre.
    core.notice('Sallyport: the agent starts with this step: what the job did before is not watched. Name the action by OWNER/REPO to have it start first')
    l = await begin(inputs, false)
  }
  if ('notWatched' in l) {
    core.info(`This job is not watched: ${shown(l.notWatched)}`)
    return
  }
  const s = await status(l.running.socket)
  if (s === undefined) {
    complain(inputs, 'the agent has gone since the job began')
    return
  }
  core.info(`Sallyport watches this job: processes, connections, look-ups, files that matter, privileges.`)
  core.info(`agent ${shown(s.agent_id)}, version ${shown(s.version)}, process ${s.pid}`)
  core.info(s.connected ? 'server: connected' : `server: ${shown(s.not_connected ?? 'not connected')}; what is seen is kept until it can be reached`)
  core.info(`fail-on: ${inputs.failOn}`)
}

async function end(inputs: Inputs): Promise<void> {
  let l = left()
  if (l === undefined && await status(setting('SALLYPORT_SOCKET', defaultSocket)) !== undefined) {
    l = await watch(inputs, false) // a local action, and an agent of the machine's: nothing is started
  }
  if (l === undefined || 'notWatched' in l) {
    const why = l?.notWatched ?? 'the agent was never started'
    core.info(`This job was not watched: ${shown(why)}`)
    await write(inputs, `### Sallyport\n\n❔ This job was not watched: ${escaped(why)}\n`)
    return
  }
  const a = l.running
  const before = await status(a.socket)
  const gone = before === undefined || (a.ours && before.pid !== a.pid)
  if (gone) {
    const what = before === undefined ? 'the agent did not run any more when the job ended' : 'another agent took the place of the one that was started'
    // What it had not sent when it was killed is what its killer does not want to be seen.
    const kept = before === undefined && a.first !== undefined ? await keep(inputs, a, a.first.spool, process.env) : undefined
    const where = kept !== undefined && 'artifact' in kept ? whereKept(kept) : undefined
    await write(inputs, `### Sallyport\n\n❗ Not complete: ${what}. What the job did after that was not seen\n` +
      (where === undefined ? '' : `\n⏳ ${escaped(`What it had not sent by then: ${where}`)}${howToSend(kept, a.first)}\n`))
    if (where !== undefined) {
      core.warning(`Sallyport: what the agent had not sent: ${where}`)
    }
    // Nobody but root can do that, and nobody has a reason to.
    inputs.failOn === 'never' ? core.error(`Sallyport: ${what}`) : core.setFailed(`Sallyport: ${what}`)
    return
  }
  // A job whose agent only stops would count as one whose end was not seen. The report waits
  // long enough for the agent to hear of it.
  const completed = a.ours ? complete(a, before.connected) : undefined
  const none = { problem: 'there is no program of the agent to ask it with' }
  const [markdown, json] = await Promise.all([
    a.program === '' ? none : inputs.summary ? report(a, '--markdown') : undefined,
    a.program === '' ? none : inputs.failOn !== 'never' ? report(a, '--json') : undefined,
  ])
  await completed
  // What was seen is told, and counts, of an agent that does not end in order, too.
  const stopped = a.ours ? await stop(a).catch((e: Error) => ({ problem: e.message })) : before
  const disorder = 'problem' in stopped ? stopped.problem : undefined
  const last = 'problem' in stopped ? before : stopped
  const ended = a.ours && disorder === undefined && last.goes_on !== true
  if (a.ours && last.goes_on === true) {
    core.info('Another job on this machine counts on the agent: it goes on, and ends with that.')
  }
  const kept = ended && last.batches_waiting > 0 ? await keep(inputs, a, last.spool, process.env) : undefined
  await write(inputs, (markdown === undefined ? '' : 'text' in markdown ? markdown.text : `### Sallyport\n\n❔ No report: ${escaped(markdown.problem)}\n`) +
    (disorder === undefined ? account(last, ended, kept) : `\n❗ Not complete: the agent did not end in order: ${escaped(disorder)}\n`))
  core.info(`The agent saw ${last.events_seen} records${ended ? ' and has ended' : ''}.`)
  if (disorder !== undefined) {
    // As with one that has gone: a job could have it so.
    const what = `Sallyport: the agent did not end in order: ${disorder}`
    inputs.failOn === 'never' && !inputs.requireAgent ? core.error(what) : core.setFailed(what)
  } else if (last.batches_waiting > 0) {
    core.warning(`Sallyport: ${unsent(last, ended, kept)}`)
  }
  if (json !== undefined) {
    const verdict = 'text' in json ? judge(json.text, inputs.failOn) : { fails: [], unknown: json.problem }
    if (verdict.unknown !== undefined) {
      core.warning(`Sallyport: whether the job is to fail (fail-on: ${inputs.failOn}) could not be told: ${verdict.unknown}`)
    }
    for (const f of verdict.fails.slice(0, 10)) {
      core.error(`Sallyport: ${f}`)
    }
    if (verdict.fails.length > 0) {
      core.setFailed(`Sallyport: ${verdict.fails.length} reason${verdict.fails.length === 1 ? '' : 's'} to fail this job (fail-on: ${inputs.failOn})`)
    }
  }
}

/** account is what the report cannot say, for it is made while the agent runs. */
function account(s: Status, ended: boolean, kept?: Kept): string {
  const lines: string[] = []
  const lost = Object.entries(s.events_lost ?? {})
  if (lost.length > 0) {
    lines.push(`❗ Events lost on this machine: ${lost.map(([kind, n]) => `${escaped(kind)} ${Number(n)}`).join(', ')}`)
  }
  if (s.batches_waiting > 0) {
    lines.push(`⏳ ${escaped(unsent(s, ended, kept))}${howToSend(kept, s)}`)
  }
  return lines.length === 0 ? '' : `\n${lines.join('\n\n')}\n`
}

function unsent(s: Status, ended: boolean, kept?: Kept): string {
  const why = s.connected ? 'there was no time' : s.not_connected ?? 'not connected'
  const what = `${s.batches_waiting} batches of events did not reach the server (${shown(why)}); `
  if (!ended) {
    return `${what}the agent goes on sending them`
  }
  if (kept !== undefined && 'artifact' in kept) {
    return what + whereKept(kept)
  }
  const not = kept === undefined ? '' : ` (not uploaded: ${shown(kept.notUploaded)})`
  return `${what}they are in ${shown(s.spool)} on this machine: ${s.run ? 'another agent of this run' : 'the next agent there'} sends them, and where the machine goes with the job they are lost${not}`
}

type Uploaded = Extract<Kept, { artifact: string }>

function whereKept(k: Uploaded): string {
  const left = k.leftOut > 0 ? `; ${k.leftOut} more had no room there, and are lost where the machine goes with the job` : ''
  return `${k.batches} of them (${k.bytes} bytes) are in the artifact ${k.artifact} of this run for ${keptDays} days, from where "sallyport spool send" brings them to the server${left}`
}

/** howToSend is what somebody types who has the right to. */
function howToSend(kept: Kept | undefined, s?: Status): string {
  const [repository = '', run = ''] = ['GITHUB_REPOSITORY', 'GITHUB_RUN_ID'].map((n) => process.env[n] ?? '')
  if (kept === undefined || !('artifact' in kept) || !/^[\w.-]+\/[\w.-]+$/.test(repository) || !/^\d+$/.test(run)) {
    return ''
  }
  // An agent that is bound to this run is believed for it; another one somebody has to vouch for.
  const agent = s !== undefined && /^[\w-]+$/.test(s.agent_id) && !s.run ? ` --agent ${s.agent_id}` : ''
  return `\n\n\`\`\`\ngh run download ${run} --repo ${repository} --name ${kept.artifact} --dir ${kept.artifact}\n` +
    `sallyport spool send --repo ${repository} --run ${run}${agent} ${kept.artifact}\n\`\`\``
}

/** write never throws: what a job did to the file of its summary does not keep it from failing. */
async function write(inputs: Inputs, text: string): Promise<void> {
  const path = process.env['GITHUB_STEP_SUMMARY'] ?? ''
  if (!inputs.summary || text === '' || path === '') {
    return
  }
  try {
    if (!(await stat(path)).isFile()) {
      throw new Error('its file is none') // a pipe would hold the job up
    }
    await core.summary.addRaw(text).write()
  } catch (e) {
    core.warning(`Sallyport: the summary cannot be written: ${(e as Error).message}`)
  }
}

/** shown is text of others on one line of the log, in which no command of the runner's can be. */
export function shown(text: string): string {
  return text.replace(/[\u0000-\u001f\u007f]+/g, ' ').replace(/##\[/g, '## [').replace(/^\s*::/, ': :').slice(0, 1000)
}

/** escaped is text of others as words of Markdown: no link, image, mention or HTML. */
export function escaped(text: string): string {
  return shown(text).replace(/[!-/:-@[-`{-~]/g, '\\$&').replace(/@/g, '@\u200b')
}
