package sallyportv1

import (
	"strconv"
	"strings"
)

// Name returns the protocol as tables, policies and people write it: "tcp", "icmp",
// the number of one without a name here, "" for none.
func (x Protocol) Name() string {
	if x == Protocol_PROTOCOL_UNSPECIFIED {
		return ""
	}
	if name, ok := Protocol_name[int32(x)]; ok {
		return strings.ToLower(strings.TrimPrefix(name, "PROTOCOL_"))
	}
	return strconv.Itoa(int(x))
}
