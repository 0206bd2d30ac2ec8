package stream

// What the tests from outside need.
var (
	Encode      = encode
	SampleBatch = sampleBatch
)
