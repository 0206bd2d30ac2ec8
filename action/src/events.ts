// What did not reach the server: an artifact of the run is made of it, where that is wanted,
// for the machine may go with the job.
import { randomBytes } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { isAbsolute, join } from 'node:path'
import type { Running } from './agent'
import { reason } from './binary'
import { pipe, run } from './command'
import type { Inputs } from './inputs'

/** Upload is what src/upload.ts is told. */
export interface Upload {
  name: string
  folder: string
  files: string[]
  days: number
}

/** Uploaded is what it says. */
export interface Uploaded {
  problem?: string
}

/** Kept says where the events are that did not reach the server. */
export type Kept = {
  artifact: string
  batches: number
  bytes: number
  /** How many had no room in it. */
  leftOut: number
} | { notUploaded: string }

/** Bounds of an artifact. */
export const maxBytes = 64 << 20
const maxMilliseconds = 30_000
/** keptDays is how long GitHub keeps it. */
export const keptDays = 7

/** keep makes an artifact of what an agent that has ended left in its spool. It never throws. */
export async function keep(inputs: Inputs, a: Running, spool: string, env: NodeJS.ProcessEnv): Promise<Kept | undefined> {
  try {
    const no = await whyNot(inputs, env)
    return no === undefined ? await upload(a, spool, env) : { notUploaded: no }
  } catch (e) {
    return { notUploaded: (e as Error).message }
  }
}

/**
 * whyNot says why no artifact is to be made; undefined if one is. Whoever may read the repository
 * may read its artifacts, and a machine that stays may have run what is none of theirs.
 */
export async function whyNot(inputs: Inputs, env: NodeJS.ProcessEnv): Promise<string | undefined> {
  if (inputs.uploadEvents === 'false') {
    return 'upload-events is false'
  }
  if (inputs.disableTelemetry) {
    return 'disable-telemetry is true'
  }
  if (inputs.uploadEvents === 'true') {
    return undefined
  }
  if (!inputs.server && !inputs.nats && !env['SALLYPORT_SERVER'] && !env['SALLYPORT_NATS']) {
    return 'no server is given that it would be for; upload-events: true does it all the same'
  }
  if (env['RUNNER_ENVIRONMENT'] !== 'github-hosted') {
    return 'this machine may run other jobs, too; upload-events: true does it all the same'
  }
  if (!await isPrivate(env)) {
    return 'the repository is public, or does not say that it is not; upload-events: true does it all the same'
  }
  return undefined
}

async function isPrivate(env: NodeJS.ProcessEnv): Promise<boolean> {
  try {
    const event = JSON.parse(await readFile(env['GITHUB_EVENT_PATH'] ?? '', 'utf8')) as { repository?: { private?: unknown } }
    return event.repository?.private === true
  } catch {
    return false
  }
}

interface File {
  name: string
  bytes: number
}

/** What the child needs of the environment: where to upload, as whom, and by which proxy. */
const forUpload = /^(ACTIONS_RUNTIME_TOKEN|ACTIONS_RESULTS_URL|GITHUB_SERVER_URL|GITHUB_RETENTION_DAYS|(HTTPS?|NO)_PROXY|https?_proxy|no_proxy|NODE_EXTRA_CA_CERTS|SSL_CERT_(FILE|DIR))$/

async function upload(a: Running, spool: string, env: NodeJS.ProcessEnv): Promise<Kept | undefined> {
  const end = Date.now() + maxMilliseconds
  if (!isAbsolute(spool)) {
    throw new Error('the agent does not say where its spool is')
  }
  const files = await list(a.sudo, spool, a.since ?? 0)
  if (files.length === 0) {
    return undefined
  }
  const fitting = fit(files, maxBytes)
  const folder = await mkdtemp(join(env['RUNNER_TEMP'] || tmpdir(), 'sallyport-events-'))
  try {
    // Read as root, written as this user: root writes to no folder that others can change.
    const problem = await pipe([...a.sudo, 'tar', '-C', spool, '-cf', '-', '--no-recursion', '-T', '-'], ['tar', '-C', folder, '-xf', '-', '--no-same-owner', '--no-same-permissions'],
      Math.max(1, end - Date.now()), fitting.map((f) => f.name + '\n').join(''))
    if (problem !== undefined) {
      throw new Error(`read the spool: ${reason(problem)}`)
    }
    const name = artifactName(env)
    const what: Upload = { name, folder, files: fitting.map((f) => join(folder, f.name)), days: keptDays }
    const some = Object.fromEntries(Object.entries(env).filter((e): e is [string, string] => forUpload.test(e[0]) && e[1] !== undefined))
    const done = await run([process.execPath, join(__dirname, 'upload.js')], Math.max(1, end - Date.now()), JSON.stringify(what), some)
    const said = parse(done.out)
    if (said === undefined) {
      throw new Error(done.code === null ? `the upload did not end within ${maxMilliseconds / 1000} s` : `the upload ended with ${done.code}: ${reason(done.err)}`)
    }
    if (said.problem !== undefined) {
      throw new Error(`the upload failed: ${said.problem}`)
    }
    return { artifact: name, batches: fitting.length, bytes: sum(fitting), leftOut: files.length - fitting.length }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

function parse(text: string): Uploaded | undefined {
  try {
    return JSON.parse(text.trim().split('\n').pop() ?? '') as Uploaded
  } catch {
    return undefined
  }
}

/** list returns the batches of agents that started at since or later, oldest first. */
async function list(sudo: string[], spool: string, since: number): Promise<File[]> {
  const done = await run([...sudo, 'find', spool, '-maxdepth', '1', '-type', 'f', '-name', '*.batch', '-printf', '%f %s\\n'], 5000)
  if (done.code !== 0) {
    throw new Error(`read the spool: ${reason(done.err)}`)
  }
  return select(done.out, since)
}

/**
 * select reads lines of a name and a size. A spool may hold what agents of other jobs left there,
 * whose events are not for the readers of this repository. since is in milliseconds.
 */
export function select(lines: string, since: number): File[] {
  const files: File[] = []
  for (const line of lines.split('\n')) {
    // EPOCH-SEQUENCE-EVENTS, the epoch being when the agent started, in nanoseconds.
    const m = /^((\d{20})-\d{20}-\d{1,9}\.batch) (\d{1,12})$/.exec(line)
    // The agent's clock and this one are the same, which may be set a little while it starts.
    if (m?.[1] !== undefined && BigInt(m[2] ?? 0) / 1_000_000n >= BigInt(Math.trunc(since)) - 1000n) {
      files.push({ name: m[1], bytes: Number(m[3]) })
    }
  }
  return files.sort((a, b) => (a.name < b.name ? -1 : 1))
}

/** fit returns the oldest files that together have no more than so many bytes. */
export function fit(files: File[], most: number): File[] {
  let bytes = 0
  const end = files.findIndex((f) => (bytes += f.bytes) > most)
  return end < 0 ? files : files.slice(0, end)
}

function sum(files: File[]): number {
  return files.reduce((n, f) => n + f.bytes, 0)
}

/** artifactName is another one for each job of a matrix and each attempt. */
export function artifactName(env: NodeJS.ProcessEnv): string {
  const job = (env['GITHUB_JOB'] ?? '').replace(/[^A-Za-z0-9_-]+/g, '-').slice(0, 60) || 'job'
  const attempt = /^\d{1,9}$/.test(env['GITHUB_RUN_ATTEMPT'] ?? '') ? env['GITHUB_RUN_ATTEMPT'] : '1'
  return `sallyport-events-${job}-${attempt}-${randomBytes(5).toString('hex')}`
}
