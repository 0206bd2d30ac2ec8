package credential

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/nats-io/nkeys"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
)

// Variables by which a job with `permissions: id-token: write` asks GitHub for a token.
const (
	requestURLVariable   = "ACTIONS_ID_TOKEN_REQUEST_URL"
	requestTokenVariable = "ACTIONS_ID_TOKEN_REQUEST_TOKEN"
)

// Request is what a job asks GitHub for a token with.
type Request struct {
	url   *url.URL
	token string
}

// ErrNoRequest says that the agent was not started in a job that may ask for a token.
var ErrNoRequest = errors.New("there is no way to ask GitHub for a token: the job needs `permissions: id-token: write`, and the agent its environment")

// TakeRequest reads from the environment how GitHub is asked for a token, and takes that
// out of the environment of this process, as others see it, too. It is ErrNoRequest if
// nothing is there.
func TakeRequest(lookup func(string) (string, bool)) (*Request, error) {
	address, _ := lookup(requestURLVariable)
	token, _ := lookup(requestTokenVariable)
	if err := wipeEnvironment(requestURLVariable, requestTokenVariable); err != nil {
		return nil, fmt.Errorf("take %s out of the environment: %w", requestTokenVariable, err)
	}
	if address == "" || token == "" {
		return nil, ErrNoRequest
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("%s is not an address", requestURLVariable)
	}
	if err := confidential(u); err != nil {
		return nil, fmt.Errorf("%s: %w", requestURLVariable, err)
	}
	return &Request{url: u, token: token}, nil
}

// ask gets a token for an audience.
func (r *Request) ask(ctx context.Context, client *http.Client, audience string) (string, error) {
	u := *r.url
	query := u.Query()
	query.Set("audience", audience)
	u.RawQuery = query.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return "", errors.New("ask GitHub for a token: its address cannot be used") // the error repeats it
	}
	request.Header.Set("Authorization", "Bearer "+r.token)
	request.Header.Set("Accept", "application/json; api-version=2.0")
	data, err := do(client, request)
	if err != nil {
		return "", fmt.Errorf("ask GitHub at %s for a token: %w", u.Host, err)
	}
	var answer struct {
		Value string `json:"value"`
	}
	if json.Unmarshal(data, &answer) != nil || answer.Value == "" {
		return "", fmt.Errorf("ask GitHub at %s for a token: there is none in the answer", u.Host)
	}
	return answer.Value, nil
}

// Job is which attempt of which run an agent is of.
type Job struct {
	Repository, RunID string
	Attempt           uint32
}

// JobOf reads from the environment which job this is.
func JobOf(lookup func(string) (string, bool)) (Job, error) {
	repository, _ := lookup("GITHUB_REPOSITORY")
	run, _ := lookup("GITHUB_RUN_ID")
	number, _ := lookup("GITHUB_RUN_ATTEMPT")
	attempt, err := strconv.ParseUint(number, 10, 32)
	if !stream.ValidRepository(repository) || run == "" || err != nil || attempt == 0 {
		return Job{}, errors.New("GITHUB_REPOSITORY, GITHUB_RUN_ID and GITHUB_RUN_ATTEMPT do not say which job this is")
	}
	return Job{Repository: repository, RunID: run, Attempt: uint32(attempt)}, nil
}

// jobSource gets credentials for OIDC tokens.
type jobSource struct {
	api     *API
	github  *http.Client
	request *Request
	job     Job
	key     nkeys.KeyPair
	nkey    string
}

// NewJobSource returns a source for the agent of a job, whose nkey is key.
func NewJobSource(api *API, request *Request, job Job, key nkeys.KeyPair) (Source, error) {
	nkey, err := key.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("read the agent's nkey: %w", err)
	}
	github, err := newClient("")
	if err != nil {
		return nil, err
	}
	return &jobSource{api: api, github: github, request: request, job: job, key: key, nkey: nkey}, nil
}

func (s *jobSource) AgentID() string {
	return stream.JobAgentID(s.job.Repository, s.job.RunID, s.job.Attempt, s.nkey)
}

func (s *jobSource) Key() nkeys.KeyPair { return s.key }

func (s *jobSource) Get(ctx context.Context) (*sallyportv1.Credential, error) {
	token, err := s.request.ask(ctx, s.github, s.api.URL)
	if err != nil {
		return nil, err
	}
	answer := new(sallyportv1.ExchangeTokenResponse)
	err = s.api.call(ctx, "/v1/identity:exchange", &sallyportv1.ExchangeTokenRequest{Token: token, Nkey: s.nkey}, answer)
	return answer.GetCredential(), err
}
