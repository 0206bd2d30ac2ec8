// What the workflow asks for. Nothing that is asked for and not done goes unsaid.
import { parseEndpoints } from './endpoints'

/** The inputs of action.yml, and what each is if it is not given. */
export const known: Record<string, string> = {
  'server': '', 'nats': '', 'agent-path': '', 'agent-version': '', 'agent-sha256': '', 'agent-url': '',
  'require-agent': 'false', 'fail-on': 'never', 'summary': 'true', 'upload-events': 'private',
  // As Harden-Runner calls them.
  'egress-policy': 'audit', 'allowed-endpoints': '', 'disable-telemetry': 'false', 'disable-sudo': 'false',
  'disable-sudo-and-containers': 'false', 'disable-file-monitoring': 'false', 'exempt-files': '', 'policy': '',
  'use-policy-store': 'false', 'api-key': '', 'token': '', 'deploy-on-self-hosted-vm': 'true',
}

export type FailOn = 'never' | 'threat' | 'new'

/** UploadEvents is in which repositories an artifact is made of what the server did not get. */
export type UploadEvents = 'private' | 'true' | 'false'

export interface Inputs {
  server: string
  nats: string
  agentPath: string
  agentVersion: string
  agentSHA256: string
  agentURL: string
  requireAgent: boolean
  failOn: FailOn
  summary: boolean
  uploadEvents: UploadEvents
  disableTelemetry: boolean
  deployOnSelfHosted: boolean
  /** What is not to appear in any log. */
  secrets: string[]
  /** What is asked for and not done. */
  warnings: string[]
  /** What cannot be understood. */
  errors: string[]
  /** What else is worth a line. */
  notes: string[]
}

/** readInputs reads them as the runner passes them: INPUT_ and the name in upper case. */
export function readInputs(env: NodeJS.ProcessEnv): Inputs {
  const warnings: string[] = []
  const errors: string[] = []
  const notes: string[] = []
  const of = (name: string): string => {
    const given = env[variable(name)]?.trim()
    return given === undefined || given === '' ? known[name] ?? '' : given
  }
  const yes = (name: string): boolean => {
    const value = of(name).toLowerCase()
    if (value !== 'true' && value !== 'false') {
      errors.push(`${name} is neither true nor false`)
      return known[name] === 'true'
    }
    return value === 'true'
  }

  const names = new Set(Object.keys(known).map(variable))
  for (const name of Object.keys(env).sort()) {
    if (name.startsWith('INPUT_') && !names.has(name)) {
      const input = name.slice('INPUT_'.length).toLowerCase()
      warnings.push(`there is no input ${quoted(input)}: it does nothing`)
    }
  }

  const policy = of('egress-policy').toLowerCase()
  const { endpoints, problems } = parseEndpoints(of('allowed-endpoints'))
  for (const p of problems.slice(0, 10)) {
    warnings.push(`allowed-endpoints: ${p}`)
  }
  if (problems.length > 10) {
    warnings.push(`allowed-endpoints: ${problems.length - 10} more cannot be read`)
  }
  if (policy === 'block') {
    warnings.push('not enforced: egress-policy: block. The agent cannot block yet: everything is allowed, watched and reported, as with audit')
  } else if (policy !== 'audit') {
    errors.push('egress-policy is neither audit nor block; it is taken as audit')
  }
  if (endpoints.length > 0) {
    const what = `allowed-endpoints: ${endpoints.length} endpoint${endpoints.length === 1 ? '' : 's'} read, nothing is blocked`
    policy === 'block' ? warnings.push(`not enforced: ${what}`) : notes.push(what)
  }
  for (const [name, what] of [
    ['disable-sudo', 'sudo stays as it is'],
    ['disable-sudo-and-containers', 'sudo and the container engine stay as they are'],
    ['disable-file-monitoring', 'files that matter are watched'],
    ['use-policy-store', 'policies are those of the server'],
  ] as const) {
    if (yes(name)) {
      warnings.push(`not enforced: ${name}: ${what}`)
    }
  }
  if (of('exempt-files') !== '') {
    warnings.push('not enforced: exempt-files: no file is exempt; an exception can be made on the server')
  }
  if (of('policy') !== '') {
    warnings.push('not enforced: policy: policies are those of the server')
  }
  if (of('api-key') !== '') {
    warnings.push('api-key is not used: the job proves who it is by GitHub\'s OIDC token (server)')
  }

  const failOn = of('fail-on').toLowerCase()
  if (failOn !== 'never' && failOn !== 'threat' && failOn !== 'new') {
    errors.push('fail-on is none of never, threat, new; it is taken as threat')
  }
  const uploadEvents = of('upload-events').toLowerCase()
  if (uploadEvents !== 'private' && uploadEvents !== 'true' && uploadEvents !== 'false') {
    errors.push('upload-events is none of private, true, false; it is taken as false')
  }
  const sha256 = of('agent-sha256').toLowerCase()
  if (sha256 !== '' && !/^[0-9a-f]{64}$/.test(sha256)) {
    errors.push('agent-sha256 is not 64 hexadecimal digits')
  }
  const version = of('agent-version')
  if (version !== '' && !/^v?[0-9A-Za-z][0-9A-Za-z.+_-]{0,63}$/.test(version)) {
    errors.push('agent-version is not a version')
  }
  for (const name of ['agent-url', 'server']) {
    if (of(name) !== '' && !isWebAddress(of(name))) {
      errors.push(`${name} is not an address of the form https://HOST[:PORT][/PATH]`)
    }
  }
  if (of('server') !== '' && of('nats') !== '') {
    notes.push('both server and nats are given: nats is used')
  }
  return {
    server: of('nats') === '' ? of('server') : '',
    nats: of('nats'),
    agentPath: of('agent-path'),
    agentVersion: version,
    agentSHA256: sha256,
    agentURL: of('agent-url'),
    requireAgent: yes('require-agent'),
    failOn: failOn === 'never' || failOn === 'new' ? failOn : 'threat',
    summary: yes('summary'),
    uploadEvents: uploadEvents === 'private' || uploadEvents === 'true' ? uploadEvents : 'false',
    disableTelemetry: yes('disable-telemetry'),
    deployOnSelfHosted: yes('deploy-on-self-hosted-vm'),
    secrets: secretsOf(of('nats'), of('api-key'), of('token')),
    warnings, errors, notes,
  }
}

function variable(name: string): string {
  return `INPUT_${name.replace(/ /g, '_').toUpperCase()}`
}

/** isWebAddress says whether an address is one of HTTPS, without a password in it. */
export function isWebAddress(text: string): boolean {
  try {
    const u = new URL(text)
    // In clear only where nothing leaves the machine.
    const here = ['127.0.0.1', '[::1]', 'localhost'].includes(u.hostname)
    return (u.protocol === 'https:' || (u.protocol === 'http:' && here)) && u.username === '' && u.password === ''
  } catch {
    return false
  }
}

/** secretsOf returns values and, of addresses, the passwords in them. */
function secretsOf(...values: string[]): string[] {
  const secrets = new Set<string>()
  for (const value of values) {
    if (value === '') {
      continue
    }
    secrets.add(value)
    for (const address of value.split(',')) {
      const password = /^[a-z]+:\/\/(?:[^:@/]*:)?([^@/]+)@/.exec(address.trim())?.[1]
      if (password !== undefined) {
        secrets.add(password)
        try {
          secrets.add(decodeURIComponent(password))
        } catch {
          // It is not encoded, then.
        }
      }
    }
  }
  return [...secrets]
}

/** quoted is text from outside, short and on one line. */
export function quoted(text: string): string {
  return JSON.stringify(text.length > 60 ? text.slice(0, 60) + '…' : text)
}
