# METADATA
# scope: package
# schemas:
#   - input: schema.policy_input
# title: Install script downloads a program
# description: >-
#   Code of a package, run while the package is installed, starts a downloader or a
#   shell that does, or a program in a place where everybody may write. Packages
#   that fetch a binary do so by themselves, without a shell; the droppers of
#   ua-parser-js, axios and Shai-Hulud did not.
# custom:
#   class: threat
#   kinds: [exec]
#   severity: high
#   technique: T1195.002
#   also: [T1105, T1059.007]
#   remediation: >-
#     Treat every secret of the job as known to others and rotate them now. Install
#     without scripts (npm ci --ignore-scripts, pip install --only-binary), and
#     remove the package that the ancestry names.
package sallyport.policies.install_script_downloads

import data.sallyport.lineage

violation contains message if {
	input.process.executable != ""
	input.behaviour.program in fetchers
	installer := lineage.installer
	script
	message := sprintf("%s was started by an install script of %s", [input.behaviour.program, installer])
}

violation contains message if {
	shell
	some argument in input.process.arguments
	regex.match(`(^|[\s;|&(])(curl|wget)\s+.*(https?:|\$)`, argument)
	installer := lineage.installer
	message := sprintf("an install script of %s runs a shell that downloads", [installer])
}

violation contains message if {
	scratch
	installer := lineage.installer
	not building
	message := sprintf("an install script of %s started %s", [installer, input.process.executable])
}

fetchers := {"curl", "wget", "wget2", "aria2c", "axel", "lftp", "tftp"}

shell if input.behaviour.program in data.sallyport.lists.interpreters.shell

# Between the package manager and the program stands something of the package.
script if {
	some process in array.slice(input.ancestry, 0, 4)
	not lineage.installs(process)
	some name in lineage.names(process)
	some language in {"shell", "javascript", "python", "ruby", "php", "perl"}
	name in data.sallyport.lists.interpreters[language]
}

scratch if regex.match(`^(/tmp|/var/tmp|/dev/shm)/[^/]+$`, input.process.executable)

scratch if regex.match(`^(/tmp|/var/tmp|/dev/shm|/home/[^/]+|/root)/(\.[^/]+/)*\.[^/]+$`, input.process.executable)

# Programs that a configure script makes and tries.
building if {
	some process in input.ancestry
	some name in lineage.names(process)
	name in {"configure", "cmake", "meson", "make", "ninja", "cargo", "rustc", "go", "bazel"}
}
