#!/bin/sh
# Waits until all is sent that was seen of the job, and adds its summary. Never fails a job.
/usr/local/bin/sallyport-agent hook completed || :
