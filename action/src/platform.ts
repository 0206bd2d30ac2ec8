// Where the action runs, and whether an agent can watch from there.
import { existsSync, readlinkSync } from 'node:fs'

export interface Platform {
  os: string
  arch: string
  /** In a container of its own: what runs on the machine is not seen from there. */
  contained: boolean
  root: boolean
  selfHosted: boolean
}

/** The machine's first PID namespace (include/linux/proc_ns.h, PROC_PID_INIT_INO). */
const firstPIDNamespace = 'pid:[4026531836]'

export function platform(env: NodeJS.ProcessEnv): Platform {
  return {
    os: process.platform,
    arch: process.arch,
    contained: process.platform === 'linux' && isContained(),
    root: process.getuid?.() === 0,
    selfHosted: env['RUNNER_ENVIRONMENT'] === 'self-hosted',
  }
}

function isContained(): boolean {
  try {
    return readlinkSync('/proc/self/ns/pid') !== firstPIDNamespace
  } catch {
    return true // no /proc to look into
  }
}

/** whyNot says why no agent can be started here; undefined if one can. */
export function whyNot(p: Platform, deployOnSelfHosted: boolean): string | undefined {
  if (p.os !== 'linux') {
    const name = p.os === 'win32' ? 'Windows' : p.os === 'darwin' ? 'macOS' : p.os
    return `Sallyport does not observe jobs on ${name}: this job is not watched, and goes on`
  }
  if (p.arch !== 'x64' && p.arch !== 'arm64') {
    return `Sallyport's agent is built for x64 and arm64, not for ${p.arch}: this job is not watched, and goes on`
  }
  if (p.contained) {
    return 'this job runs in a container, from where the agent cannot see the machine: this job is not watched, and goes on. ' +
      'On runners of your own install the agent on the machine or node; on GitHub\'s, run the job without "container:" (docs/action.md)'
  }
  if (p.selfHosted && !deployOnSelfHosted) {
    return 'no agent runs on this self-hosted runner, and deploy-on-self-hosted-vm is false: this job is not watched, and goes on'
  }
  return undefined
}

/**
 * findSudo returns the prefix of a command that is to run as root: nothing for root, else
 * sudo by its path. Later steps may change PATH, so that is not asked.
 */
export function findSudo(root: boolean, places = ['/usr/bin/sudo', '/bin/sudo', '/usr/local/bin/sudo', '/run/wrappers/bin/sudo']): string[] {
  if (root) {
    return []
  }
  const sudo = places.find((p) => existsSync(p))
  if (sudo === undefined) {
    throw new Error('the agent needs root, and this runner has no sudo')
  }
  return [sudo, '-n', '--']
}
