// A program of its own, for what waits in the spool: the library for artifacts is 25 times
// the rest of the action, and a process can be ended when its time is over. Standard input
// says what to upload; the last line of standard output says what came of it.
import { DefaultArtifactClient } from '@actions/artifact'
import type { Upload, Uploaded } from './events'

const output = process.stdout.write.bind(process.stdout)
// The library speaks to the runner there, with commands, too: none of that is for the log.
process.stdout.write = (() => true) as typeof process.stdout.write

async function upload(): Promise<void> {
  const chunks: Buffer[] = []
  for await (const c of process.stdin) {
    chunks.push(c as Buffer)
  }
  const u = JSON.parse(Buffer.concat(chunks).toString('utf8')) as Upload
  let done: Uploaded
  try {
    // Batches are packed already.
    await new DefaultArtifactClient().uploadArtifact(u.name, u.files, u.folder, { retentionDays: u.days, compressionLevel: 0 })
    done = {}
  } catch (e) {
    // What storage answers may have no words. An address of it is a secret behind its question mark.
    const { message, name, statusCode } = e as Error & { statusCode?: number }
    done = { problem: (message || `${name}${statusCode === undefined ? '' : ` ${statusCode}`}`).replace(/\?\S*/g, '?…') }
  }
  output(`\n${JSON.stringify(done)}\n`, () => process.exit())
}

void upload()
