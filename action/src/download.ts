// Fetching the released agent: from the runner's tool cache, else from the release. With
// what node has: the library for it waits ten seconds and more before it tries again, and
// for a server that says nothing without end; the job would wait for that.
import { randomUUID } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { mkdir, rename, rm } from 'node:fs/promises'
import * as http from 'node:http'
import * as https from 'node:https'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { Transform, type Duplex } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { isIP } from 'node:net'
import { connect } from 'node:tls'
import { sha256Of } from './digest'
import { isWebAddress } from './inputs'

export interface Limits {
  /** For everything together, in milliseconds. */
  within: number
  /** Of the file; the agent has less than 15 MB. */
  bytes: number
}

const limits: Limits = { within: 30_000, bytes: 64 << 20 }

/** How often it is tried: at once again, then after this many milliseconds. */
const pauses = [0, 500]
const maxRedirects = 5

/**
 * download returns the path of a file with that digest, from the runner's tool cache or from
 * url. What has another digest is thrown away, and is an error.
 */
export async function download(url: string, version: string, arch: string, sha256: string, env = process.env, most = limits): Promise<string> {
  const file = join(env['RUNNER_TOOL_CACHE'] || env['RUNNER_TEMP'] || tmpdir(), 'sallyport-agent', version, arch, 'sallyport-agent')
  // Whatever an earlier job on this machine left there: the digest decides.
  if (await sha256Of(file).catch(() => '') === sha256) {
    return file
  }
  // Under a name of its own: other jobs on the machine may do the same now.
  const part = `${file}.${randomUUID()}`
  try {
    await mkdir(dirname(file), { recursive: true })
    await fetchTo(new URL(url), part, env, most)
    const got = await sha256Of(part)
    if (got !== sha256) {
      throw new Error(`it has the digest ${got}, not ${sha256}: it was not started`)
    }
    await rename(part, file)
    return file
  } catch (e) {
    throw new Error(`download ${url}: ${(e as Error).message}`)
  } finally {
    await rm(part, { force: true })
  }
}

/** Passing is a failure that may be gone at the next try. */
class Passing extends Error {}

async function fetchTo(url: URL, file: string, env: NodeJS.ProcessEnv, most: Limits): Promise<void> {
  const signal = AbortSignal.timeout(most.within)
  for (let i = 0; ; i++) {
    try {
      return await save(await follow(url, env, signal), file, most.bytes, signal)
    } catch (e) {
      if (signal.aborted) {
        throw new Error(`it did not come within ${most.within} ms`)
      }
      const pause = pauses[i]
      if (!(e instanceof Passing) || pause === undefined) {
        throw e
      }
      await new Promise((resolve) => setTimeout(resolve, pause))
    }
  }
}

async function follow(url: URL, env: NodeJS.ProcessEnv, signal: AbortSignal): Promise<http.IncomingMessage> {
  for (let i = 0; i <= maxRedirects; i++) {
    const answer = await get(url, env, signal)
    const code = answer.statusCode ?? 0
    if (code === 200) {
      return answer
    }
    answer.destroy()
    if (code >= 500 || code === 429 || code === 408) {
      throw new Passing(`${url.host} answers ${code}`)
    }
    const location = answer.headers.location
    if (code < 300 || code >= 400 || location === undefined) {
      throw new Error(`${url.host} answers ${code}`)
    }
    url = new URL(location, url)
    if (!isWebAddress(url.href)) {
      throw new Error(`it was sent on to ${url.protocol}//${url.host}, which is not https`)
    }
  }
  throw new Error(`it was sent on more than ${maxRedirects} times`)
}

async function get(url: URL, env: NodeJS.ProcessEnv, signal: AbortSignal): Promise<http.IncomingMessage> {
  const options: https.RequestOptions = { signal, headers: { 'user-agent': 'sallyport-action' } }
  const proxy = proxyFor(url, env)
  if (proxy !== undefined) {
    const socket = await tunnel(proxy, `${url.hostname}:${url.port || 443}`, signal)
    options.createConnection = () => connect({ socket, ...(isIP(bare(url.hostname)) ? {} : { servername: url.hostname }) })
  }
  return new Promise((resolve, reject) => {
    (url.protocol === 'https:' ? https : http).get(url, options, resolve).on('error', (e) => reject(new Passing(e.message)))
  })
}

async function save(answer: http.IncomingMessage, file: string, most: number, signal: AbortSignal): Promise<void> {
  let bytes = 0
  const counted = new Transform({
    transform(chunk: Buffer, _, done) {
      bytes += chunk.length
      bytes > most ? done(new Error(`it has more than ${most} bytes`)) : done(null, chunk)
    },
  })
  try {
    await pipeline(answer, counted, createWriteStream(file, { mode: 0o644 }), { signal })
  } catch (e) {
    // Cut off in the middle: the other end, or the way there.
    const code = (e as NodeJS.ErrnoException).code
    throw code === 'ECONNRESET' || code === 'ERR_STREAM_PREMATURE_CLOSE' ? new Passing((e as Error).message) : e
  }
}

/** proxyFor is the proxy for an address, by the variables that the runner knows, too. */
export function proxyFor(url: URL, env: NodeJS.ProcessEnv): URL | undefined {
  const proxy = env['https_proxy'] || env['HTTPS_PROXY'] || ''
  if (url.protocol !== 'https:' || proxy === '') {
    return undefined // in clear it goes to this machine alone
  }
  const port = url.port || '443'
  for (const word of (env['no_proxy'] || env['NO_PROXY'] || '').toLowerCase().split(/[\s,]+/)) {
    const [, name = '', only] = /^(.*?)(?::(\d+))?$/.exec(word) ?? []
    const suffix = name.replace(/^\*?\./, '')
    if (suffix !== '' && (only === undefined || only === port) && (name === '*' || url.hostname === suffix || url.hostname.endsWith(`.${suffix}`))) {
      return undefined
    }
  }
  try {
    return new URL(proxy.includes('://') ? proxy : `http://${proxy}`)
  } catch {
    throw new Error('HTTPS_PROXY is not an address') // which may have a password in it
  }
}

/** tunnel opens a connection through a proxy (RFC 9110, CONNECT). */
export function tunnel(proxy: URL, to: string, signal: AbortSignal): Promise<Duplex> {
  const headers: Record<string, string> = { host: to }
  if (proxy.username !== '') {
    const word = `${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`
    headers['proxy-authorization'] = `Basic ${Buffer.from(word).toString('base64')}`
  }
  const secure = proxy.protocol === 'https:'
  return new Promise((resolve, reject) => {
    (secure ? https : http).request({
      method: 'CONNECT', host: bare(proxy.hostname), port: proxy.port || (secure ? 443 : 80), path: to, headers, agent: false, signal,
    }).on('connect', (answer, socket) => {
      if (answer.statusCode === 200) {
        resolve(socket)
      } else {
        socket.destroy()
        reject(new Error(`the proxy answers ${answer.statusCode}`))
      }
    }).on('error', (e) => reject(new Passing(`the proxy: ${e.message}`))).end()
  })
}

/** bare is a host without the brackets that an IPv6 address has in a URL. */
function bare(host: string): string {
  return host.replace(/^\[|\]$/g, '')
}
