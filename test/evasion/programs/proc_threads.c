/*
 * A thousand threads and more, of which one, not the first, runs a program: it takes the
 * first one's number, and all others end.
 */
#include "trick.h"
#include <pthread.h>

#define THREADS 1500

static pthread_barrier_t all_there;

static void *thread(void *last)
{
	pthread_barrier_wait(&all_there);
	if (last)
		must(execl("/proc/self/exe", "from-a-thread", "sends", NULL));
	pause();
	return NULL;
}

int main(int argc, char **argv)
{
	struct sockaddr_in to = there();
	pthread_attr_t small;
	pthread_t t;

	if (argc == 1) {
		pthread_attr_init(&small);
		pthread_attr_setstacksize(&small, 64 << 10);
		pthread_barrier_init(&all_there, NULL, THREADS + 1);
		for (long i = 0; i < THREADS; i++) {
			if (pthread_create(&t, &small, thread, (void *)(i == THREADS - 1))) {
				fprintf(stderr, "thread %ld cannot be made\n", i);
				return 1;
			}
		}
		pthread_barrier_wait(&all_there);
		pause();
	}
	acted();
	must(sendto(must(socket(AF_INET, SOCK_DGRAM, 0)), PAYLOAD, sizeof(PAYLOAD), 0, (void *)&to, sizeof(to)));
	return 0;
}
