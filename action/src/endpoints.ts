// Allowlists of endpoints, in all the forms that people have.
import { isIP, isIPv4, isIPv6 } from 'node:net'

/** Endpoint is where a job may send. */
export interface Endpoint {
  /** host is a name or an address; suffix all names below one; network an address with a prefix. */
  kind: 'host' | 'suffix' | 'network'
  /** Lower case; of a suffix without what stands for the rest. */
  target: string
  /** 443 if none was given. */
  port: number
}

const defaultPort = 443
const maxEntries = 2000

/**
 * parseEndpoints reads HOST[:PORT], *.HOST or .HOST, IPv4, IPv6 ([…]:PORT with a port) and
 * networks, separated by white space or commas. problems say what could not be read.
 */
export function parseEndpoints(text: string): { endpoints: Endpoint[]; problems: string[] } {
  const endpoints: Endpoint[] = []
  const problems: string[] = []
  const words = text.split(/[\s,]+/).filter((w) => w !== '')
  if (words.length > maxEntries) {
    problems.push(`${words.length} endpoints are more than the ${maxEntries} that are read`)
  }
  for (const word of words.slice(0, maxEntries)) {
    const got = parseEndpoint(word)
    if (typeof got === 'string') {
      problems.push(`${JSON.stringify(word.length > 80 ? word.slice(0, 80) + '…' : word)} ${got}`)
    } else {
      endpoints.push(got)
    }
  }
  return { endpoints, problems }
}

function parseEndpoint(word: string): Endpoint | string {
  if (word.includes('://')) {
    return 'is a URL: only HOST[:PORT] is meant'
  }
  if (/[^\x21-\x7e]/.test(word)) {
    return 'has other characters than ASCII: names of that kind are written as xn--…'
  }
  let host = word.toLowerCase()
  let port = defaultPort
  const bracketed = /^\[([^\]]*)\](?::(.*))?$/.exec(host)
  const colon = host.lastIndexOf(':')
  if (bracketed) {
    host = bracketed[1] ?? ''
    if (!isIPv6(host.split('/')[0] ?? '')) {
      return 'has something else than an IPv6 address in brackets'
    }
    if (bracketed[2] !== undefined) {
      port = portOf(bracketed[2])
    }
  } else if (colon >= 0 && !isIPv6(host.split('/')[0] ?? '')) {
    port = portOf(host.slice(colon + 1))
    host = host.slice(0, colon)
  }
  if (Number.isNaN(port)) {
    return 'has a port that is not a number from 1 to 65535'
  }
  if (isIP(host)) {
    return { kind: 'host', target: host, port }
  }
  if (host.includes('/')) {
    const [address = '', bits = '', ...rest] = host.split('/')
    const most = isIPv4(address) ? 32 : isIPv6(address) ? 128 : -1
    if (rest.length > 0 || most < 0 || !/^\d{1,3}$/.test(bits) || Number(bits) > most) {
      return 'is not a network of the form ADDRESS/BITS'
    }
    return { kind: 'network', target: `${address}/${Number(bits)}`, port }
  }
  const kind = host.startsWith('*.') || host.startsWith('.') ? 'suffix' : 'host'
  const name = host.replace(/^\*?\./, '').replace(/\.$/, '')
  const labels = name.split('.')
  if (name.length > 253 || labels.some((l) => !/^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/.test(l))) {
    return name.includes('*') ? 'has a * elsewhere than as its first label' : 'is not the name of a host'
  }
  if (/^[0-9]+$/.test(labels[labels.length - 1] ?? '')) {
    return 'is neither an address nor the name of a host'
  }
  return { kind, target: name, port }
}

function portOf(text: string): number {
  return /^\d{1,5}$/.test(text) && Number(text) >= 1 && Number(text) <= 65535 ? Number(text) : NaN
}
