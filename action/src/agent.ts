// Speaking with the agent: over its socket, and by its command line as root.
import { stat } from 'node:fs/promises'
import { createConnection } from 'node:net'
import { reason } from './binary'
import { run } from './command'

/** Status is how an agent is, as `sallyport-agent status --json` says it. */
export interface Status {
  agent_id: string
  version: string
  pid: number
  armed: boolean
  connected: boolean
  not_connected?: string
  events_seen: number
  events_lost?: Record<string, number>
  batches_waiting: number
  spool: string
  /** Jobs that count on it; only of an agent that a job has started. */
  users?: number
  /** It is about to end, and only sends what it has seen. */
  ends?: boolean
  /** It was to stop unless it is used, and is. */
  goes_on?: boolean
  /** OWNER/NAME/ID/ATTEMPT if it may speak for that run alone. */
  run?: string
}

export const defaultSocket = '/run/sallyport-agent/agent.sock'
export const defaultState = '/var/lib/sallyport-agent'

/** Running is an agent, and how the action speaks with it. */
export interface Running {
  socket: string
  /** The agent's program; empty if this action did not start it and has none. */
  program: string
  sudo: string[]
  /** This action started it, and ends it. */
  ours: boolean
  pid: number
  /** Of an agent that this action started: when that was, and what it said then. */
  since?: number
  first?: Status
}

/** How long an agent may take to answer: one on a machine that has much to do is not taken for gone. */
const patience = 3000

/** status asks the agent on a socket that only root can have made; undefined if none answers. */
export async function status(socket: string, milliseconds = patience): Promise<Status | undefined> {
  return toStatus((await ask(socket, { do: 'status' }, milliseconds))?.['status'])
}

/**
 * use has an agent that another job has started go on until this one has ended, too. first says
 * that no step of the job has run yet. False if it does not.
 */
export async function use(socket: string, first: boolean): Promise<boolean> {
  const answer = await ask(socket, { do: 'use', begins: first }, patience)
  return answer !== undefined && answer['error'] === undefined
}

/** How long an agent that ends may go on sending, and one that does not say so may take to. */
const endPatience = 15_000
const soon = 3000

/** ended waits for an agent that is about to end, and says whether it has, or another has taken its place. */
export async function ended(socket: string, pid: number): Promise<boolean> {
  for (const began = Date.now(); ;) {
    const s = await status(socket, 1000)
    if (s === undefined || s.pid !== pid) {
      return true
    }
    if (Date.now() - began > (s.ends === true ? endPatience : soon)) {
      return false
    }
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

async function ask(socket: string, what: { do: string, begins?: boolean }, milliseconds: number): Promise<Record<string, unknown> | undefined> {
  try {
    if ((await stat(socket)).uid !== 0) {
      return undefined
    }
  } catch {
    return undefined
  }
  return new Promise((resolve) => {
    let text = ''
    const c = createConnection(socket)
    const done = (a?: Record<string, unknown>) => { clearTimeout(timer); c.destroy(); resolve(a) }
    const timer = setTimeout(() => done(), milliseconds)
    c.setEncoding('utf8')
    c.on('connect', () => c.write(JSON.stringify(what) + '\n'))
    c.on('error', () => done())
    c.on('data', (s: string) => { if (text.length < 1 << 16) text += s })
    c.on('end', () => {
      try {
        const answer: unknown = JSON.parse(text)
        done(typeof answer === 'object' && answer !== null ? answer as Record<string, unknown> : undefined)
      } catch {
        done()
      }
    })
  })
}

function toStatus(s: unknown): Status | undefined {
  if (typeof s !== 'object' || s === null) {
    return undefined
  }
  const { agent_id, version, pid, armed, connected, events_seen, batches_waiting } = s as Record<string, unknown>
  const fits = typeof agent_id === 'string' && typeof version === 'string' && typeof pid === 'number' && typeof armed === 'boolean' &&
    typeof connected === 'boolean' && typeof events_seen === 'number' && typeof batches_waiting === 'number'
  return fits ? s as Status : undefined
}

/**
 * start starts the agent and returns when it is armed. Secrets go by standard input. first
 * says that no step of the job has run yet. What it returns says whether it was this that
 * started it, and not that of a job which began at the same time.
 */
export async function start(program: string, sudo: string[], socket: string, state: string, variables: Record<string, string>, first: boolean): Promise<Status & { started: boolean }> {
  const words = [...sudo, program, 'start', '--json', '--environment-stdin', '--within', '10s', '--socket', socket, '--state', state, '--ends-with-jobs', ...(first ? ['--begins-job'] : [])]
  const done = await run(words, 25_000, JSON.stringify(variables))
  if (done.code !== 0) {
    const why = reason(done.err)
    throw new Error(done.code === 3 ? `this kernel, or the privileges here, cannot run the agent: ${why}` : `start the agent: ${why}`)
  }
  const s = parse(done.out)
  if (s === undefined) {
    throw new Error(`start the agent: it said something else than its status: ${reason(done.out)}`)
  }
  return { ...s, started: (s as Status & { started?: unknown }).started !== false }
}

/**
 * complete has the agent take the job for ended: it sees this program run. The program waits
 * until what was seen has arrived; without a server that is no use.
 */
export async function complete(a: Running, connected: boolean): Promise<void> {
  await run([a.program, 'hook', 'completed', '--socket', a.socket], connected ? 1000 : 100)
}

/**
 * stop ends the agent, unless another job counts on it, and returns how it was; what it cannot send
 * within a second stays.
 */
export async function stop(a: Running): Promise<Status> {
  const done = await run([...a.sudo, a.program, 'stop', '--json', '--unless-used', '--within', '1s', '--socket', a.socket], 20_000)
  const s = done.code === 0 ? parse(done.out) : undefined
  if (s === undefined) {
    throw new Error(`stop the agent: ${reason(done.err)}`)
  }
  return s
}

function parse(text: string): Status | undefined {
  try {
    return toStatus(JSON.parse(text))
  } catch {
    return undefined
  }
}

/**
 * report asks what the job did. Not by sudo: the agent knows whose job this process is. Of a job
 * that it does not see it is asked for nothing else, as root would be told of the only other one.
 */
export async function report(a: Running, form: '--markdown' | '--json'): Promise<{ text: string } | { problem: string }> {
  const done = await run([a.program, 'report', form, '--execution', 'own', '--wait', '1s', '--socket', a.socket], 10_000)
  if (done.code === 2) {
    return { problem: 'this version of the agent makes no reports' }
  }
  return done.code === 0 ? { text: done.out } : { problem: reason(done.err) }
}
