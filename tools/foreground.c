/*
 * foreground.c --
 *	Loaded into GNU make, lets the command that it runs decide how it ends. Left to itself, make
 *	passes a SIGTERM on, waits until the command has ended, and then dies of the signal although
 *	the command ended well. And a SIGINT that was sent to make alone it does not pass on.
 */

#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

int plugin_is_GPL_compatible;	/* make loads nothing without it. */

static void (*ownHandler)(int);

static void
PassOn(int number, siginfo_t *infoPtr, void *context)
{
    char children[4096] = "", *atPtr = children;
    int fd, pid, count = 0;

    (void)context;
    if (infoPtr->si_code > 0) {
	return;			/* Ctrl-C: the terminal has sent it to the command too. */
    }
    fd = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
	if (read(fd, children, sizeof(children) - 1) > 0) {
	    while ((pid = (int)strtol(atPtr, &atPtr, 10)) > 0) {
		kill(pid, number);
		count++;
	    }
	}
	close(fd);
    }
    if (count == 0) {
	ownHandler(number);
    }
}

int
foreground_gmk_setup(void)
{
    static const int numbers[] = {SIGINT, SIGTERM};
    struct sigaction action = {.sa_sigaction = PassOn, .sa_flags = SA_SIGINFO | SA_RESTART};
    struct sigaction before;

    for (int i = 0; i < 2; i++) {
	sigaction(numbers[i], NULL, &before);
	if (before.sa_handler != SIG_IGN && before.sa_handler != SIG_DFL) {
	    ownHandler = before.sa_handler;
	    sigaction(numbers[i], &action, NULL);
	}
    }
    return 1;
}
