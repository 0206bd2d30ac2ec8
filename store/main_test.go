package store

import (
	"testing"

	"github.com/sallyport-ci/sallyport/store/engine/enginetest"
)

func TestMain(m *testing.M) { enginetest.Main(m) }
