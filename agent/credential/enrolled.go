package credential

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nkeys"
	"google.golang.org/protobuf/types/known/timestamppb"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
	"github.com/sallyport-ci/sallyport/wholefile"
)

// Enrolment is what an enrolled machine keeps, in a file that only root may read.
type Enrolment struct {
	// Server where it is enrolled.
	Server string `json:"server"`
	// ServerCA is the file with the certificates for the server, if there is one.
	ServerCA string `json:"server_ca,omitempty"`
	// AgentID is what the server calls it.
	AgentID string `json:"agent_id"`
	// Seed of its nkey.
	Seed string `json:"seed"`
}

// enrolmentFile is in the state folder.
const enrolmentFile = "enrolment.json"

// LoadEnrolment reads the enrolment in a state folder; os.ErrNotExist if there is none.
func LoadEnrolment(dir string) (*Enrolment, error) {
	path := filepath.Join(dir, enrolmentFile)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read enrolment: %w", err)
	}
	e := new(Enrolment)
	if json.Unmarshal(data, e) != nil || !stream.ValidAgentID(e.AgentID) {
		return nil, fmt.Errorf("read enrolment: %s is damaged; remove it and enrol again", path)
	}
	return e, nil
}

// Keep writes the enrolment into a state folder, whole or not at all.
func (e *Enrolment) Keep(dir string) error {
	data, err := json.MarshalIndent(e, "", "  ")
	if err == nil {
		err = writePrivate(filepath.Join(dir, enrolmentFile), append(data, '\n'))
	}
	if err != nil {
		return fmt.Errorf("keep enrolment: %w", err)
	}
	return nil
}

// writePrivate writes a file of its owner's alone, whole or not at all, and its folder if
// need be.
func writePrivate(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return wholefile.Sync(path, 0o600, data)
}

// enrolledSource gets credentials by the nkey of an enrolled machine.
type enrolledSource struct {
	api     *API
	agentID string
	key     nkeys.KeyPair
}

// NewEnrolledSource returns a source for an enrolled machine.
func NewEnrolledSource(api *API, e *Enrolment) (Source, error) {
	key, err := nkeys.FromSeed([]byte(e.Seed))
	if err != nil {
		return nil, errors.New("the nkey of the enrolment is damaged; enrol again")
	}
	return &enrolledSource{api: api, agentID: e.AgentID, key: key}, nil
}

func (s *enrolledSource) AgentID() string    { return s.agentID }
func (s *enrolledSource) Key() nkeys.KeyPair { return s.key }

func (s *enrolledSource) Get(ctx context.Context) (*sallyportv1.Credential, error) {
	now := time.Now()
	// As identity.RenewalText has it.
	signature, err := s.key.Sign(fmt.Appendf(nil, "sallyport renew\n%s\n%s\n%d", s.api.URL, s.agentID, now.Unix()))
	if err != nil {
		return nil, fmt.Errorf("sign with the agent's nkey: %w", err)
	}
	answer := new(sallyportv1.RenewCredentialResponse)
	err = s.api.call(ctx, "/v1/identity:renew", &sallyportv1.RenewCredentialRequest{
		AgentId: s.agentID, Time: timestamppb.New(now), Signature: signature,
	}, answer)
	return answer.GetCredential(), err
}

// JobKey returns the nkey of the agent of a job, kept in a state folder: an agent that is
// started again in the same job is the same agent. Another job gets another one.
func JobKey(dir string, job Job) (nkeys.KeyPair, error) {
	path := filepath.Join(dir, "job.json")
	var kept struct {
		Job  Job    `json:"job"`
		Seed string `json:"seed"`
	}
	if data, err := os.ReadFile(path); err == nil && json.Unmarshal(data, &kept) == nil && kept.Job == job {
		if key, err := nkeys.FromSeed([]byte(kept.Seed)); err == nil {
			return key, nil
		}
	}
	key, err := nkeys.CreateUser()
	if err != nil {
		return nil, fmt.Errorf("make the agent's nkey: %w", err)
	}
	seed, err := key.Seed()
	if err != nil {
		return nil, fmt.Errorf("make the agent's nkey: %w", err)
	}
	kept.Job, kept.Seed = job, string(seed)
	data, err := json.Marshal(kept)
	if err == nil {
		err = writePrivate(path, data)
	}
	if err != nil {
		return nil, fmt.Errorf("keep the agent's nkey: %w", err)
	}
	return key, nil
}
