// Which agent runs, and that it is that one.
import { randomUUID } from 'node:crypto'
import { lstat, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import pinned from '../agent.json'
import { run } from './command'
import { sha256Of } from './digest'
import { isWebAddress, type Inputs } from './inputs'

export interface Pinned {
  /** Empty as long as nothing has been released. */
  version: string
  /** By architecture, as node calls them. */
  sha256: Record<string, string>
}

const releases = 'https://github.com/sallyport-ci/sallyport/releases/download'

/** Wanted is what is to be run: a file that is there, or one that is downloaded. */
export type Wanted =
  | { path: string; sha256: string }
  | { url: string; version: string; sha256: string }

/** wanted chooses the agent, or says why there is none. A digest that is not known is no choice. */
export function wanted(inputs: Inputs, arch: string, pins: Pinned = pinned): Wanted {
  if (inputs.agentPath !== '') {
    return { path: inputs.agentPath, sha256: inputs.agentSHA256 }
  }
  const version = inputs.agentVersion === '' ? pins.version : inputs.agentVersion
  if (version === '') {
    throw new Error('no agent has been released with this version of the action: give agent-path, or agent-version with agent-sha256')
  }
  const sha256 = inputs.agentSHA256 !== '' ? inputs.agentSHA256 : version === pins.version ? pins.sha256[arch] ?? '' : ''
  if (sha256 === '') {
    throw new Error(`the digest of the agent ${version} for ${arch} is not known: give agent-sha256`)
  }
  if (inputs.agentURL !== '' && !isWebAddress(inputs.agentURL)) {
    throw new Error('agent-url is not an address that the agent may come from') // it may hold a password
  }
  const base = inputs.agentURL === '' ? `${releases}/${version}` : inputs.agentURL.replace(/\/+$/, '')
  return { url: `${base}/sallyport-agent-linux-${arch}`, version: version.replace(/^v/, ''), sha256 }
}

/**
 * install puts the agent where only root can change it, and returns its path there. The
 * digest is that of the copy: between the look at a file and its start nobody may change it.
 */
export async function install(file: string, sha256: string, folder: string, sudo: string[]): Promise<string> {
  const want = sha256 !== '' ? sha256 : await sha256Of(file)
  const copy = `${folder}/${want.slice(0, 16)}/sallyport-agent`
  if (await isRoots(copy) && await sha256Of(copy) === want) {
    return copy
  }
  // Jobs that begin at once do so each under a name of its own: the last to be done leaves the same.
  const own = `${copy}.${randomUUID()}`
  const done = await run([...sudo, 'install', '-D', '-o', '0', '-g', '0', '-m', '0755', '--', file, own], 30_000)
  if (done.code !== 0) {
    throw new Error(`copy the agent as root: ${reason(done.err)}`)
  }
  try {
    if (!await isRoots(own)) {
      throw new Error(`others than root can change ${copy}: the agent was not started`)
    }
    const got = await sha256Of(own)
    if (got !== want) {
      throw new Error(`${file} has the digest ${got}, not ${want}: it was not started`)
    }
    const moved = await run([...sudo, 'mv', '-fT', '--', own, copy], 10_000)
    if (moved.code !== 0) {
      throw new Error(`put the agent in its place: ${reason(moved.err)}`)
    }
  } catch (err) {
    await run([...sudo, 'rm', '-f', '--', own], 10_000)
    throw err
  }
  return copy
}

/**
 * onMachine returns the program that `sallyport-agent install` has put on this machine, empty if
 * there is none that only root can change.
 */
export async function onMachine(places = ['/usr/local/bin/sallyport-agent']): Promise<string> {
  for (const place of places) {
    if (await isRoots(place)) {
      return place
    }
  }
  return ''
}

/** isRoots says whether only root can change a file, or put another one in its place. */
async function isRoots(file: string): Promise<boolean> {
  for (let path = file; ; path = dirname(path)) {
    try {
      const [s, name] = await Promise.all([stat(path), lstat(path)])
      // A folder with the sticky bit lets nobody move what is not his, such as a link of his own.
      if (s.uid !== 0 || name.uid !== 0 || ((s.mode & 0o022) !== 0 && (s.mode & 0o1000) === 0)) {
        return false
      }
    } catch {
      return false
    }
    if (path === '/') {
      return true
    }
  }
}

/** reason is the end of what a program said. */
export function reason(said: string): string {
  const lines = said.split('\n').map((l) => l.trim()).filter((l) => l !== '')
  return lines.length === 0 ? 'it did not say why' : lines.slice(-5).join('; ').slice(-1000)
}
