package process

import (
	"slices"
	"testing"

	"github.com/spf13/pflag"
)

func TestMisspelt(t *testing.T) {
	f := pflag.NewFlagSet("x", pflag.ContinueOnError)
	f.String("nats-url", "", "")
	f.String("retention-days", "", "")
	f.String("data", "", "")
	got := Misspelt([]string{
		"SALLYPORT_NATS_ULR=secret", "SALLYPORT_RETENTION_DAY=3", "SALLYPORT_DATA=/x", "SALLYPORT_DATE=/x", "SALLYPORT_DAT1=",
		"SALLYPORT_META=a", "SALLYPORT_SOMETHING=else", "SALLYPORT_NATS_URI=known", "PATH=/bin", "SALLYPORT_",
	}, f, "SALLYPORT_NATS_URI")
	want := []string{
		"SALLYPORT_NATS_ULR is set and is no setting here; did you mean SALLYPORT_NATS_URL?",
		"SALLYPORT_RETENTION_DAY is set and is no setting here; did you mean SALLYPORT_RETENTION_DAYS?",
		"SALLYPORT_DATE is set and is no setting here; did you mean SALLYPORT_DATA?",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}
