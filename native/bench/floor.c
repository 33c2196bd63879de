/*
 * floor.c --
 *	The least that a server takes that makes the system calls of the io_uring engine: a mark of
 *	"tclchan bench" beside socket2. It accepts, receives and sends as engine/uring.c does where
 *	the kernel can all of that, and what a turn has brought leaves with the next wait. Of a
 *	request it knows the end only; the answer is that of http.tcl, or of short.tcl. So what a
 *	Tcl server takes more than this, Tcl, the script and the driver take.
 *
 *	floor keepalive
 *	floor close
 *		Closes each connection behind the answer.
 *
 *	It says "ready PORT" and serves until it is killed. What goes wrong is an error, and ends
 *	it.
 */

#include "fail.h"
#include <arpa/inet.h>
#include <errno.h>
#include <liburing.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* As in engine/uring.c and common.c. The buffers are given back before the next wait. */
#define ENTRIES 1024
#define CQ_ENTRIES 8192
#define BUFFERS 1024
#define BUFFER_SIZE 32768

#define BODY_16 "xxxxxxxxxxxxxxxx"
#define BODY BODY_16 BODY_16 BODY_16 BODY_16 BODY_16 BODY_16 BODY_16 BODY_16
#define REPLY(field) "HTTP/1.1 200 OK\r\nContent-Length: 128\r\n" field "\r\n\r\n" BODY

static const char requestEnd[] = "\r\n\r\n";

typedef enum Kind { ACCEPT, RECEIVE, SEND } Kind;
#define KIND_BITS 2		/* Of an entry's user data; the descriptor is in the others. */

static struct io_uring ring;
static struct io_uring_buf_ring *bufRing;
static char *memory;		/* That of the buffers. */
static const char *reply;
static size_t replySize;
static int closes;
static unsigned char *matched;	/* For each descriptor: how much of requestEnd came last. */

static void
Check(int result, const char *what)
{
    if (result < 0 && result != -EINTR && result != -EAGAIN && result != -EBUSY) {
	Fail("%s: %s", what, strerror(-result));
    }
}

/*
 * Entry --
 *	An empty submission entry, for the caller to fill and to Tag.
 */
static struct io_uring_sqe *
Entry(void)
{
    struct io_uring_sqe *sqePtr = io_uring_get_sqe(&ring);

    if (sqePtr == NULL) {
	Check(io_uring_submit(&ring), "io_uring_enter");
	sqePtr = io_uring_get_sqe(&ring);
    }
    if (sqePtr == NULL) {
	Fail("the ring stays full");
    }
    return sqePtr;
}

static void
Tag(struct io_uring_sqe *sqePtr, Kind kind, int fd)
{
    io_uring_sqe_set_data64(sqePtr, (uint64_t)fd << KIND_BITS | kind);
}

static void
StartAccept(int fd)
{
    struct io_uring_sqe *sqePtr = Entry();

    io_uring_prep_multishot_accept(sqePtr, fd, NULL, NULL, SOCK_CLOEXEC);
    Tag(sqePtr, ACCEPT, fd);
}

static void
StartReceive(int fd, unsigned short flags)
{
    struct io_uring_sqe *sqePtr = Entry();

    io_uring_prep_recv(sqePtr, fd, NULL, 0, 0);
    sqePtr->flags |= IOSQE_BUFFER_SELECT;
    sqePtr->ioprio |= flags;
    Tag(sqePtr, RECEIVE, fd);
}

static void
StartSend(int fd)
{
    struct io_uring_sqe *sqePtr = Entry();

    io_uring_prep_send(sqePtr, fd, reply, replySize, MSG_NOSIGNAL);
    Tag(sqePtr, SEND, fd);
}

static void
GiveBuffer(int id)
{
    io_uring_buf_ring_add(bufRing, memory + (size_t)id * BUFFER_SIZE, BUFFER_SIZE,
	    (unsigned short)id, io_uring_buf_ring_mask(BUFFERS), 0);
    io_uring_buf_ring_advance(bufRing, 1);
}

/*
 * CountRequests --
 *	How many requests end in these bytes.
 */
static int
CountRequests(int fd, const char *data, int size)
{
    int count = 0;

    for (int i = 0; i < size; i++) {
	if (data[i] != requestEnd[matched[fd]]) {
	    matched[fd] = data[i] == requestEnd[0];
	} else if (requestEnd[++matched[fd]] == '\0') {
	    matched[fd] = 0;
	    count++;
	}
    }
    return count;
}

static void
Accepted(int fd)
{
    int one = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    matched[fd] = 0;
    StartReceive(fd, 0);
}

static void
Received(int fd, const struct io_uring_cqe *cqePtr)
{
    int count = 0;

    if (cqePtr->flags & IORING_CQE_F_BUFFER) {
	int id = (int)(cqePtr->flags >> IORING_CQE_BUFFER_SHIFT);

	count = CountRequests(fd, memory + (size_t)id * BUFFER_SIZE, cqePtr->res);
	GiveBuffer(id);
    }
    if (cqePtr->res <= 0 && cqePtr->res != -ENOBUFS) {
	close(fd);
	return;
    }
    for (int i = 0; i < count; i++) {
	StartSend(fd);
    }
    if ((count == 0 || !closes) && !(cqePtr->flags & IORING_CQE_F_MORE)) {
	StartReceive(fd, IORING_RECVSEND_POLL_FIRST | (closes ? 0 : IORING_RECV_MULTISHOT));
    }
}

static void
Complete(const struct io_uring_cqe *cqePtr)
{
    uint64_t data = io_uring_cqe_get_data64(cqePtr);
    int fd = (int)(data >> KIND_BITS);

    switch ((Kind)(data & ((1 << KIND_BITS) - 1))) {
    case ACCEPT:
	if (cqePtr->res < 0) {
	    Fail("accept: %s", strerror(-cqePtr->res));
	}
	Accepted(cqePtr->res);
	if (!(cqePtr->flags & IORING_CQE_F_MORE)) {
	    StartAccept(fd);
	}
	break;
    case RECEIVE:
	Received(fd, cqePtr);
	break;
    case SEND:
	if (closes) {
	    close(fd);
	}
	break;
    }
}

static void
Open(void)
{
    struct io_uring_params params = {
	.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN
		| IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE,
	.cq_entries = CQ_ENTRIES
    };
    struct io_uring_buf_reg buffers = {.ring_entries = BUFFERS};
    struct rlimit descriptors;

    getrlimit(RLIMIT_NOFILE, &descriptors);
    Check(io_uring_queue_init_params(ENTRIES, &ring, &params), "io_uring_setup");
    io_uring_register_ring_fd(&ring);
    matched = calloc((size_t)descriptors.rlim_cur, 1);
    memory = malloc((size_t)BUFFERS * BUFFER_SIZE);
    bufRing = aligned_alloc(4096, BUFFERS * sizeof(struct io_uring_buf));
    if (matched == NULL || memory == NULL || bufRing == NULL) {
	Fail("out of memory");
    }
    memset(bufRing, 0, BUFFERS * sizeof(struct io_uring_buf));
    buffers.ring_addr = (uint64_t)(uintptr_t)bufRing;
    Check(io_uring_register_buf_ring(&ring, &buffers, 0), "buffers");
    io_uring_buf_ring_init(bufRing);
    for (int id = 0; id < BUFFERS; id++) {
	GiveBuffer(id);
    }
}

static void
Listen(void)
{
    struct sockaddr_in address = {
	.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)
    };
    socklen_t length = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (bind(fd, (struct sockaddr *)&address, length) < 0 || listen(fd, SOMAXCONN) < 0
	    || getsockname(fd, (struct sockaddr *)&address, &length) < 0) {
	Fail("cannot listen: %s", strerror(errno));
    }
    StartAccept(fd);
    printf("ready %d\n", ntohs(address.sin_port));
    fflush(stdout);
}

int
main(int argc, char **argv)
{
    closes = argc == 2 && strcmp(argv[1], "close") == 0;
    if (!closes && !(argc == 2 && strcmp(argv[1], "keepalive") == 0)) {
	Fail("usage: floor keepalive\n       floor close");
    }
    reply = closes ? REPLY("Connection: close") : REPLY("Content-Type: text/plain");
    replySize = strlen(reply);
    Open();
    Listen();
    for (;;) {
	struct io_uring_cqe *cqePtr;
	unsigned head, count = 0;

	Check(io_uring_submit_and_wait(&ring, 1), "io_uring_enter");
	io_uring_for_each_cqe(&ring, head, cqePtr) {
	    Complete(cqePtr);
	    count++;
	}
	io_uring_cq_advance(&ring, count);
    }
}
