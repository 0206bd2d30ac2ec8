#!/bin/sh
# Says in the job's log whether it is observed. Never fails a job.
/usr/local/bin/sallyport-agent hook started || :
