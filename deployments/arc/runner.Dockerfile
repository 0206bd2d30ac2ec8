# A runner's image with job hooks, for scale sets on nodes with the agent's DaemonSet: jobs say
# in their log that they are observed, and have a summary. From the repository's root:
#   docker build -f deployments/arc/runner.Dockerfile \
#     --build-arg AGENT=REGISTRY/sallyport-agent:0.1.0 --build-arg RUNNER=YOUR-RUNNER-IMAGE .
ARG AGENT
ARG RUNNER
FROM $AGENT AS agent

FROM $RUNNER
COPY --from=agent /usr/local/bin/sallyport-agent /usr/local/bin/sallyport-agent
COPY --chown=0:0 deployments/arc/job-started.sh deployments/arc/job-completed.sh /usr/local/lib/sallyport/hooks/
ENV ACTIONS_RUNNER_HOOK_JOB_STARTED=/usr/local/lib/sallyport/hooks/job-started.sh \
    ACTIONS_RUNNER_HOOK_JOB_COMPLETED=/usr/local/lib/sallyport/hooks/job-completed.sh
