// Package routes answers which permission of a job's GITHUB_TOKEN a call of GitHub's REST interface
// needs: by method and path, and by the name that octokit gives the call. What calls there are is
// taken from GitHub's own description (operations.txt, made by make generate-github); which
// permission each needs is in permissions.txt, written down from GitHub's page about it. It knows
// nothing of GraphQL.
package routes
