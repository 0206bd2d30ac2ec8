// Whether the job fails for what was seen.
import type { FailOn } from './inputs'

interface Report {
  steps?: { destinations?: { mark?: string; domain?: string; address?: string; port?: number }[] }[]
  gaps?: { damage?: string[] }
  judgement?: { findings?: { policy?: { title?: string; class?: string }; message?: string }[]; findings_left_out?: number }
  unasked?: string
}

/** Verdict is what a report says: why the job fails, or why that is not known. */
export interface Verdict {
  fails: string[]
  unknown?: string
}

/**
 * judge looks at a JobReport in protojson (docs/summary.md). A threat is a finding of a
 * policy of that class, or damage to the agent; new is that, any finding, and a destination
 * that a stable baseline does not hold.
 */
export function judge(text: string, on: FailOn): Verdict {
  let r: Report
  try {
    r = JSON.parse(text) as Report
    if (typeof r !== 'object' || r === null) {
      throw new Error()
    }
  } catch {
    return { fails: [], unknown: 'the agent\'s report cannot be read' }
  }
  const fails = (r.gaps?.damage ?? []).map((d) => `the agent was tampered with: ${String(d)}`)
  for (const f of r.judgement?.findings ?? []) {
    if (on === 'new' || f.policy?.class !== 'POLICY_CLASS_NEW_BEHAVIOUR') {
      fails.push(`${f.policy?.title ?? 'finding'}: ${f.message ?? ''}`)
    }
  }
  // What had no room may be anything.
  const more = r.judgement?.findings_left_out ?? 0
  if (more > 0) {
    fails.push(`${more} more finding${more === 1 ? '' : 's'}`)
  }
  if (on === 'new') {
    for (const d of (r.steps ?? []).flatMap((s) => s.destinations ?? [])) {
      if (d.mark === 'DESTINATION_MARK_FIRST_SEEN') {
        fails.push(`new destination: ${d.domain || d.address || 'unknown'}${d.port ? `:${d.port}` : ''}`)
      }
    }
  }
  if (r.judgement === undefined) {
    return { fails, unknown: r.unasked || 'the server did not judge it' }
  }
  return { fails: [...new Set(fails)] }
}
