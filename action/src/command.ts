// Programs that the action runs.
import { spawn, type ChildProcess } from 'node:child_process'

export interface Ended {
  /** null if it was ended by a signal or could not be started. */
  code: number | null
  out: string
  err: string
}

/** Nothing of the job's environment, which holds secrets and what earlier steps put there. */
const environment = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LANG: 'C.UTF-8' }

/** More than any report has, with each of its characters written as six. */
const maxOutput = 16 << 20

/**
 * run runs a program until it ends, milliseconds at most, and never throws. more is what it gets
 * of the environment beside what all get.
 */
export function run(words: string[], milliseconds: number, input = '', more: Record<string, string> = {}): Promise<Ended> {
  return new Promise((resolve) => {
    const [program = '', ...args] = words
    const child = spawn(program, args, { env: { ...environment, ...more }, stdio: ['pipe', 'pipe', 'pipe'] })
    const ended: Ended = { code: null, out: '', err: '' }
    const timer = setTimeout(() => {
      ended.err += `\n${program} did not end within ${milliseconds} ms`
      abandon(child)
      resolve(ended)
    }, milliseconds)
    child.stdout.setEncoding('utf8').on('data', (s: string) => { if (ended.out.length < maxOutput) ended.out += s })
    child.stderr.setEncoding('utf8').on('data', (s: string) => { if (ended.err.length < maxOutput) ended.err += s })
    child.stdin.on('error', () => {}) // it ended without reading
    child.on('error', (e) => { clearTimeout(timer); ended.err += e.message; resolve(ended) })
    child.on('close', (code) => { clearTimeout(timer); ended.code = code; resolve(ended) })
    child.stdin.end(input)
  })
}

/** abandon ends a program and waits for it no longer: one that is root's may not be ended. */
function abandon(child: ChildProcess): void {
  child.kill('SIGKILL') // an error event if it may not
  for (const s of child.stdio) s?.destroy()
  child.unref()
}

/**
 * pipe runs two programs, the first of which gets input, and what it prints is for the second,
 * until both have ended, milliseconds at most. It returns what was wrong, undefined if nothing.
 */
export function pipe(from: string[], to: string[], milliseconds: number, input: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const [a, b] = [from, to].map(([program = '', ...args]) => spawn(program, args, { env: environment, stdio: ['pipe', 'pipe', 'pipe'] })) as [ChildProcess, ChildProcess]
    let problem = ''
    let open = 2
    const timer = setTimeout(() => {
      problem += `${from[0]} and ${to[0]} did not end within ${milliseconds} ms`
      abandon(a)
      abandon(b)
      resolve(problem)
    }, milliseconds)
    for (const c of [a, b]) {
      c.stderr?.setEncoding('utf8').on('data', (s: string) => { if (problem.length < 1000) problem += s })
      c.stdin?.on('error', () => {}) // it ended without reading
      let ended = false
      const done = (why: string) => {
        problem ||= why
        if (!ended && --open === 0) {
          clearTimeout(timer)
          resolve(problem === '' ? undefined : problem)
        }
        ended = true
      }
      c.on('error', (e) => done(e.message))
      c.on('close', (code) => done(code === 0 ? '' : `${c.spawnfile} ended with ${code}`))
    }
    b.stdout?.resume()
    a.stdout?.pipe(b.stdin!)
    a.stdin?.end(input)
  })
}
