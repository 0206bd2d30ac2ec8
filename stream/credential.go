package stream

import "github.com/nats-io/nats.go"

// CredentialOptions are what a connection shows that is known by a user JWT: the JWT, asked
// for at each attempt, and a signature by the key that it is for. The JWT is shown twice. A
// server in operator mode takes it where NATS has a place for it; one that is not, as the
// embedded one, throws that away before anybody can look at it, and takes it as the token.
func CredentialOptions(userJWT func() (string, error), sign func(nonce []byte) ([]byte, error)) []nats.Option {
	return []nats.Option{
		nats.UserJWT(userJWT, sign),
		nats.TokenHandler(func() string {
			text, err := userJWT()
			if err != nil {
				return "" // the attempt has failed for the same reason
			}
			return text
		}),
	}
}
