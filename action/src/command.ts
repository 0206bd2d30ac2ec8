// Programs that the action runs.
import { spawn } from 'node:child_process'

export interface Ended {
  /** null if it was ended by a signal or could not be started. */
  code: number | null
  out: string
  err: string
}

/** Nothing of the job's environment, which holds secrets and what earlier steps put there. */
const environment = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LANG: 'C.UTF-8' }

const maxOutput = 4 << 20

/** run runs a program until it ends, milliseconds at most, and never throws. */
export function run(words: string[], milliseconds: number, input = ''): Promise<Ended> {
  return new Promise((resolve) => {
    const [program = '', ...args] = words
    const child = spawn(program, args, { env: environment, stdio: ['pipe', 'pipe', 'pipe'] })
    const ended: Ended = { code: null, out: '', err: '' }
    const timer = setTimeout(() => {
      ended.err += `\n${program} did not end within ${milliseconds} ms`
      child.kill('SIGKILL')
      child.stdout.destroy()
      child.stderr.destroy()
    }, milliseconds)
    child.stdout.setEncoding('utf8').on('data', (s: string) => { if (ended.out.length < maxOutput) ended.out += s })
    child.stderr.setEncoding('utf8').on('data', (s: string) => { if (ended.err.length < maxOutput) ended.err += s })
    child.stdin.on('error', () => {}) // it ended without reading
    child.on('error', (e) => { clearTimeout(timer); ended.err += e.message; resolve(ended) })
    child.on('close', (code) => { clearTimeout(timer); ended.code = code; resolve(ended) })
    child.stdin.end(input)
  })
}
