/*
 * load.c --
 *	The load of "tclchan bench" where no common tool fits: it compares every byte of what
 *	comes back.
 *
 *	load exchange PORT CONNECTIONS SECONDS REQUEST REPLY
 *		Each connection sends the file REQUEST and expects the file REPLY, over and over.
 *	load accept PORT CONNECTIONS SECONDS
 *		Opens so many connections at once, waits until the server has closed all of them,
 *		and does it again.
 *
 *	It says "ready" when it could begin (of an exchange: when it is connected) and begins with
 *	the end of a line on standard input. So the caller can take the server's times around what
 *	is counted, and nothing else. The result is one line of JSON. What goes wrong is an error,
 *	and ends it.
 */

#include "fail.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define EVENTS_MAX 256
#define CONNECTIONS_MAX 100000
#define PATIENCE_MS 10000
#define NS_PER_S 1000000000LL

typedef struct Bytes {
    char *data;
    size_t size;
} Bytes;

typedef struct Connection {
    int fd;
    size_t sent;		/* Of the request. */
    size_t received;		/* Of the reply. */
    int64_t beganNs;
} Connection;

static int epollFd;
static int port;
static int connectionCount;
static int64_t durationNs;
static Connection *connections;

static int64_t
NowNs(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

/*
 * Latencies: counted in 32 classes for each power of two, so that a percentile is at most 3 % off.
 */

#define CLASS_BITS 5
#define CLASSES (1 << CLASS_BITS)

static int64_t latencyCounts[64 * CLASSES];
static int64_t latencyCount;

static void
LatencyAdd(int64_t ns)
{
    uint64_t value = (uint64_t)(ns > 0 ? ns : 0) + CLASSES;
    int shift = 63 - __builtin_clzll(value) - CLASS_BITS;

    latencyCounts[shift * CLASSES + (int)(value >> shift) - CLASSES]++;
    latencyCount++;
}

static double
LatencyUs(double fraction)
{
    int64_t wanted = (int64_t)(fraction * (double)latencyCount);

    for (int i = 0; i < 64 * CLASSES; i++) {
	wanted -= latencyCounts[i];
	if (wanted < 0) {
	    return ((double)((uint64_t)(i % CLASSES + CLASSES) << (i / CLASSES)) - CLASSES) / 1e3;
	}
    }
    return 0.0;
}

static Bytes
ReadFile(const char *path)
{
    struct stat status;
    Bytes bytes;
    int fd = open(path, O_RDONLY);

    if (fd < 0 || fstat(fd, &status) < 0 || status.st_size == 0) {
	Fail("%s: %s", path, fd < 0 ? strerror(errno) : "is empty");
    }
    bytes.size = (size_t)status.st_size;
    bytes.data = malloc(bytes.size);
    if (bytes.data == NULL || read(fd, bytes.data, bytes.size) != (ssize_t)bytes.size) {
	Fail("%s: cannot be read", path);
    }
    close(fd);
    return bytes;
}

static void
Open(Connection *connPtr, int blocking)
{
    struct sockaddr_in address = {
	.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
	.sin_addr.s_addr = htonl(INADDR_LOOPBACK)
    };
    struct epoll_event event = {
	.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = connPtr
    };
    int one = 1;

    memset(connPtr, 0, sizeof(*connPtr));
    connPtr->fd = socket(AF_INET, SOCK_STREAM | (blocking ? 0 : SOCK_NONBLOCK), 0);
    if (connPtr->fd < 0) {
	Fail("socket: %s", strerror(errno));
    }
    setsockopt(connPtr->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (connect(connPtr->fd, (struct sockaddr *)&address, sizeof(address)) < 0
	    && errno != EINPROGRESS) {
	Fail("connect: %s", strerror(errno));
    }
    if (epoll_ctl(epollFd, EPOLL_CTL_ADD, connPtr->fd, &event) < 0) {
	Fail("epoll_ctl: %s", strerror(errno));
    }
}

static int
Wait(struct epoll_event *events)
{
    int count = epoll_wait(epollFd, events, EVENTS_MAX, PATIENCE_MS);

    if (count == 0) {
	Fail("the server has done nothing for %d s", PATIENCE_MS / 1000);
    }
    if (count < 0 && errno != EINTR) {
	Fail("epoll_wait: %s", strerror(errno));
    }
    return count;
}

static void
AwaitStart(void)
{
    puts("ready");
    fflush(stdout);
    if (getchar() == EOF) {
	exit(0);
    }
}

static void
Report(int64_t count, int64_t ns)
{
    printf("{\"count\": %lld, \"seconds\": %.9f, \"p50_us\": %.3f, \"p99_us\": %.3f}\n",
	    (long long)count, (double)ns / NS_PER_S, LatencyUs(0.5), LatencyUs(0.99));
    fflush(stdout);
}

static void
Send(Connection *connPtr, const Bytes *requestPtr)
{
    while (connPtr->sent < requestPtr->size) {
	ssize_t n = send(connPtr->fd, requestPtr->data + connPtr->sent,
		requestPtr->size - connPtr->sent, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n < 0) {
	    if (errno == EAGAIN) {
		return;
	    }
	    Fail("send: %s", strerror(errno));
	}
	connPtr->sent += (size_t)n;
    }
}

/*
 * Receive --
 *	Take what has come, compare it, and begin anew when the reply is whole.
 *
 *	Events are edge-triggered. A receive that does not fill the buffer has taken everything, so
 *	that there is no need for another one just to be told that there is nothing; unless the
 *	event has told of the end too, which comes once.
 */
static void
Receive(Connection *connPtr, int ended, const Bytes *requestPtr, const Bytes *replyPtr)
{
    static char buffer[1 << 18];
    ssize_t n;

    do {
	n = recv(connPtr->fd, buffer, sizeof(buffer), MSG_DONTWAIT);
	if (n < 0 && errno == EAGAIN) {
	    return;
	}
	if (n <= 0) {
	    Fail("the server ended the connection: %s", n < 0 ? strerror(errno) : "end of file");
	}
	if ((size_t)n > replyPtr->size - connPtr->received
		|| memcmp(buffer, replyPtr->data + connPtr->received, (size_t)n) != 0) {
	    Fail("wrong reply: it differs after %zu bytes", connPtr->received);
	}
	connPtr->received += (size_t)n;
	if (connPtr->received == replyPtr->size) {
	    int64_t now = NowNs();

	    if (connPtr->sent < requestPtr->size) {
		Fail("wrong reply: it was there before the request");
	    }
	    LatencyAdd(now - connPtr->beganNs);
	    connPtr->beganNs = now;
	    connPtr->sent = connPtr->received = 0;
	    Send(connPtr, requestPtr);
	}
    } while (ended || n == (ssize_t)sizeof(buffer));
}

static void
Exchange(const Bytes *requestPtr, const Bytes *replyPtr)
{
    struct epoll_event events[EVENTS_MAX];
    int64_t began, now;

    for (int i = 0; i < connectionCount; i++) {
	Open(&connections[i], 1);
    }
    AwaitStart();
    began = NowNs();
    for (int i = 0; i < connectionCount; i++) {
	connections[i].beganNs = NowNs();
	Send(&connections[i], requestPtr);
    }
    do {
	int count = Wait(events);

	for (int i = 0; i < count; i++) {
	    Connection *connPtr = events[i].data.ptr;

	    Send(connPtr, requestPtr);
	    Receive(connPtr, events[i].events & EPOLLRDHUP, requestPtr, replyPtr);
	}
	now = NowNs();
    } while (now - began < durationNs);
    Report(latencyCount, now - began);
}

/*
 * Ended --
 *	Whether the server has closed the connection, as it should. It has nothing to say.
 */
static int
Ended(const Connection *connPtr)
{
    char byte;
    ssize_t n = recv(connPtr->fd, &byte, 1, MSG_DONTWAIT);

    if (n < 0 && errno != EAGAIN && errno != ENOTCONN) {
	Fail("a connection failed: %s", strerror(errno));
    }
    if (n > 0) {
	Fail("wrong reply: there should be none");
    }
    return n == 0;
}

static void
Accept(void)
{
    struct epoll_event events[EVENTS_MAX];
    int64_t began, now;

    AwaitStart();
    began = NowNs();
    do {
	int open = connectionCount;

	for (int i = 0; i < connectionCount; i++) {
	    Open(&connections[i], 0);
	    connections[i].beganNs = NowNs();
	}
	while (open > 0) {
	    int count = Wait(events);

	    for (int i = 0; i < count; i++) {
		Connection *connPtr = events[i].data.ptr;

		if (Ended(connPtr)) {
		    close(connPtr->fd);
		    LatencyAdd(NowNs() - connPtr->beganNs);
		    open--;
		}
	    }
	}
	now = NowNs();
    } while (now - began < durationNs);
    Report(latencyCount, now - began);
}

int
main(int argc, char **argv)
{
    int exchange = argc == 7 && strcmp(argv[1], "exchange") == 0;

    if (!exchange && !(argc == 5 && strcmp(argv[1], "accept") == 0)) {
	Fail("usage: load exchange PORT CONNECTIONS SECONDS REQUEST REPLY\n"
		"       load accept PORT CONNECTIONS SECONDS");
    }
    port = atoi(argv[2]);
    connectionCount = atoi(argv[3]);
    durationNs = (int64_t)(atof(argv[4]) * NS_PER_S);
    if (connectionCount < 1 || connectionCount > CONNECTIONS_MAX) {
	Fail("the number of connections must be 1 to %d", CONNECTIONS_MAX);
    }
    connections = calloc((size_t)connectionCount, sizeof(Connection));
    epollFd = epoll_create1(EPOLL_CLOEXEC);
    if (connections == NULL || epollFd < 0) {
	Fail("cannot begin: %s", strerror(errno));
    }
    if (exchange) {
	Bytes request = ReadFile(argv[5]), reply = ReadFile(argv[6]);

	Exchange(&request, &reply);
    } else {
	Accept();
    }
    return 0;
}
