// Fetching the released agent. In a bundle of its own: it is large, and seldom needed.
import * as cache from '@actions/tool-cache'
import { rm } from 'node:fs/promises'
import { sha256Of } from './digest'

const tool = 'sallyport-agent'

/**
 * download returns the path of a file with that digest, from the runner's tool cache or from
 * url. What has another digest is thrown away, and is an error.
 */
export async function download(url: string, version: string, arch: string, sha256: string): Promise<string> {
  const cached = cache.find(tool, version, arch)
  if (cached !== '' && await sha256Of(`${cached}/${tool}`).catch(() => '') === sha256) {
    return `${cached}/${tool}`
  }
  const file = await cache.downloadTool(url)
  const got = await sha256Of(file)
  if (got !== sha256) {
    await rm(file, { force: true })
    throw new Error(`${url} has the digest ${got}, not ${sha256}: it was not started`)
  }
  return `${await cache.cacheFile(file, tool, tool, version, arch)}/${tool}`
}
