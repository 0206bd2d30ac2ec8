// Package scenario reads small scripts that tell what jobs do, and what a detector has to
// say of it: how the detector's behaviour is specified, and how policies are tested. It
// makes the batches of events that an agent would send; package detector judges them.
//
//	run 1 to 5
//	step install
//	npm ci connects to registry.example.test:443
//	end
//	expect none
//	baseline 5 stable 2
//
//	run 6
//	step install
//	npm ci > node setup.js connects to collect.example.test:443
//	end
//	expect new_endpoint install
//	expect verdict new_behaviour
//
// README.md in detector/testdata lists the sentences.
package scenario
