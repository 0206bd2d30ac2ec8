// Starts and ends the real agent as the runner does, stage by stage, and prints medians.
// Needs root. `make bench-action`.
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

const rounds = 10

/** A job of its own for each round: below a worker, so that the agent has something to report. */
function round(dir) {
  const worker = join(dir, 'Runner.Worker')
  copyFileSync('/bin/bash', worker)
  const done = spawnSync(worker, ['-c', `${process.execPath} ${process.argv[1]} ${dir}; exit $?`], {
    env: { PATH: process.env.PATH, GITHUB_REPOSITORY: 'acme/bench', GITHUB_RUN_ID: '1', GITHUB_JOB: 'build', GITHUB_ACTION: 'sallyport' }, encoding: 'utf8',
  })
  if (done.status !== 0) throw new Error(done.stdout + done.stderr)
  return JSON.parse(done.stdout)
}

function stages(dir) {
  const took = {}
  const state = {}
  for (const stage of ['pre', 'main', 'post']) {
    for (const f of ['state', 'summary']) writeFileSync(join(dir, f), '')
    const env = {
      PATH: process.env.PATH, GITHUB_STATE: join(dir, 'state'), GITHUB_STEP_SUMMARY: join(dir, 'summary'),
      SALLYPORT_SOCKET: join(dir, 'agent.sock'), SALLYPORT_STATE: join(dir, 'var'),
      'INPUT_AGENT-PATH': resolve('bin/sallyport-agent'), INPUT_NATS: 'nats://agent:x@127.0.0.1:1', 'INPUT_FAIL-ON': 'threat', ...state,
    }
    const begin = performance.now()
    const done = spawnSync(process.execPath, [resolve(`action/dist/${stage}.js`)], { env, encoding: 'utf8' })
    took[stage] = performance.now() - begin
    if (done.status !== 0 || /::error/.test(done.stdout) || (stage === 'post' && !readFileSync(join(dir, 'summary'), 'utf8').includes('Sallyport: `build`'))) {
      throw new Error(`${stage}: ${done.stdout}${done.stderr}`)
    }
    for (const m of readFileSync(join(dir, 'state'), 'utf8').matchAll(/^(\w+)<<(\S+)\n([\s\S]*?)\n\2$/gm)) state[`STATE_${m[1]}`] = m[3]
  }
  return took
}

if (process.argv[2] !== undefined) {
  console.log(JSON.stringify(stages(process.argv[2])))
} else {
  const all = []
  for (let i = 0; i < rounds; i++) {
    const dir = mkdtempSync('/tmp/sallyport-bench-')
    try {
      all.push(round(dir))
    } finally {
      rmSync(dir, { recursive: true, force: true })
    }
  }
  for (const stage of ['pre', 'main', 'post']) {
    const list = all.map((t) => t[stage]).sort((a, b) => a - b)
    console.log(`${stage.padEnd(5)} median ${Math.round(list[Math.floor(list.length / 2)])} ms, most ${Math.round(list[list.length - 1])} ms, ${list.length} times`)
  }
}
