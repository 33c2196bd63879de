/*
 * filejobs.c --
 *	The threads that send files and write them. At most WORKERS_MAX run in the process, shared
 *	by all engines; each ends when nothing has been left to do for a while. A job is short
 *	(IOCP_FILE_MAX bytes, or the buffers of one op, and it never waits for a peer), so no number
 *	of slow readers holds a worker.
 *
 *	sendfile has no flag for a single call as send has, so the socket is non-blocking while a
 *	worker has it, and only then: a child that is given the descriptor shares the setting.
 */

#include "filejobs.h"
#include <sys/ioctl.h>
#include <sys/sendfile.h>

#define WORKERS_MAX 8
#define IDLE_SECONDS 5
#define CHUNK_SIZE 262144	/* Between two looks at whether the op is cancelled. */

/* The mutex guards all of this, and IocpFileJobs.donePtr. */
static IocpMutex mutex = IOCP_MUTEX_INIT;
static IocpCondition wanted;	/* A job was queued. */
static IocpFileOp *queueFirstPtr = NULL, *queueLastPtr = NULL;
static int queued = 0;		/* Jobs in the queue. */
static int workers = 0;		/* Threads that run, */
static int waiting = 0;		/* and those of them that wait for a job. */
static int prepared = 0;

/*
 * ForkedChild --
 *	There are no workers in a forked child; what they had to do is its parent's.
 */
static void
ForkedChild(void)
{
    static const IocpMutex unlocked = IOCP_MUTEX_INIT;

    mutex = unlocked;
    IocpConditionInit(&wanted);
    queueFirstPtr = queueLastPtr = NULL;
    queued = workers = waiting = 0;
}

int
IocpFileJobsOpen(IocpFileJobs *jobsPtr)
{
    int fds[2];

    if (jobsPtr->fd < 0) {
	if (pipe2(fds, O_CLOEXEC) < 0) {
	    return -errno;
	}
	jobsPtr->fd = fds[0];
	jobsPtr->writeFd = fds[1];
    }
    return 0;
}

void
IocpFileJobsClose(IocpFileJobs *jobsPtr)
{
    if (jobsPtr->fd >= 0) {
	close(jobsPtr->fd);
	close(jobsPtr->writeFd);
	jobsPtr->fd = -1;
    }
}

/*
 * Send --
 *	Send what the socket has room for.
 * Results:
 *	A count, 0 at the end of the file, or -errno: -EAGAIN if there is no room at all.
 */
static int
Send(const IocpFileOp *fileOpPtr)
{
    int fd = fileOpPtr->op.handlePtr->fd;
    off_t offset = fileOpPtr->offset;
    size_t sent = 0;

    while (sent < fileOpPtr->count) {
	size_t left = fileOpPtr->count - sent;
	ssize_t result;

	if (atomic_load_explicit(&fileOpPtr->cancelled, memory_order_relaxed)) {
	    return sent > 0 ? (int)sent : -ECANCELED;
	}
	result = sendfile(fd, fileOpPtr->file, &offset, left < CHUNK_SIZE ? left : CHUNK_SIZE);
	if (result < 0 && errno != EINTR) {
	    return sent > 0 ? (int)sent : -errno;
	} else if (result == 0) {
	    break;
	} else if (result > 0) {
	    sent += (size_t)result;
	}
    }
    return (int)sent;
}

/*
 * Write --
 *	Write the buffers of an op to a file.
 * Results:
 *	A count or -errno.
 */
static int
Write(const IocpFileOp *fileOpPtr)
{
    struct iovec vecs[IOCP_VECS_MAX];
    int count = IocpFillVecs(vecs, IOCP_VECS_MAX, &fileOpPtr->op);
    ssize_t result;

    if (atomic_load_explicit(&fileOpPtr->cancelled, memory_order_relaxed)) {
	return -ECANCELED;
    }
    result = writev(fileOpPtr->file, vecs, count);
    return result < 0 ? -errno : (int)result;
}

static void
Run(IocpFileOp *fileOpPtr)
{
    int fd = fileOpPtr->op.handlePtr->fd, on = 1, off = 0;

    if (fileOpPtr->op.kind == IOCP_OP_WRITE_FILE) {
	fileOpPtr->result = Write(fileOpPtr);
	return;
    }
    ioctl(fd, FIONBIO, &on);
    fileOpPtr->result = Send(fileOpPtr);
    ioctl(fd, FIONBIO, &off);
}

/*
 * Done --
 *	Give the op back to its engine. The mutex is locked: when the engine has the op, it may
 *	close, and with it the descriptor.
 */
static void
Done(IocpFileOp *fileOpPtr)
{
    IocpFileJobs *jobsPtr = fileOpPtr->jobsPtr;

    fileOpPtr->linkPtr = jobsPtr->donePtr;
    jobsPtr->donePtr = fileOpPtr;
    if (fileOpPtr->linkPtr == NULL && write(jobsPtr->writeFd, "", 1) < 0) {
	/* It has room: the engine reads each byte before it takes what is done. */
    }
}

/*
 * Dequeue --
 *	The next job; the calling worker waits for one, but not for ever. The mutex is locked.
 * Results:
 *	NULL: there is none.
 */
static IocpFileOp *
Dequeue(void)
{
    uint64_t end = IocpNow() + (uint64_t)IDLE_SECONDS * IOCP_SECOND;
    IocpFileOp *fileOpPtr;

    while (queueFirstPtr == NULL) {
	int timedOut;

	waiting++;
	timedOut = IocpConditionWaitUntil(&wanted, &mutex, end);
	waiting--;
	if (timedOut && queueFirstPtr == NULL) {
	    return NULL;
	}
    }
    fileOpPtr = queueFirstPtr;
    queueFirstPtr = fileOpPtr->linkPtr;
    queued--;
    return fileOpPtr;
}

static void *
Worker(void *unused)
{
    IocpFileOp *fileOpPtr;

    (void)unused;
    IocpNameThread("iocp-file");
    IocpMutexLock(&mutex);
    while ((fileOpPtr = Dequeue()) != NULL) {
	IocpMutexUnlock(&mutex);
	Run(fileOpPtr);
	IocpMutexLock(&mutex);
	Done(fileOpPtr);
    }
    workers--;
    IocpMutexUnlock(&mutex);
    return NULL;
}

/*
 * IocpFileStart --
 *	Queue a job. Where no thread can be started, it is done here and now.
 */
void
IocpFileStart(IocpFileJobs *jobsPtr, IocpFileOp *fileOpPtr)
{
    fileOpPtr->jobsPtr = jobsPtr;
    fileOpPtr->linkPtr = NULL;
    jobsPtr->outCount++;
    IocpMutexLock(&mutex);
    if (!prepared) {
	prepared = 1;
	IocpConditionInit(&wanted);
	IocpAtFork(ForkedChild);
    }
    *(queueFirstPtr != NULL ? &queueLastPtr->linkPtr : &queueFirstPtr) = fileOpPtr;
    queueLastPtr = fileOpPtr;
    queued++;
    if (queued > waiting && workers < WORKERS_MAX && IocpSpawn(Worker, NULL) == 0) {
	workers++;
    }
    if (workers > 0) {
	IocpConditionSignal(&wanted);
    } else {
	queueFirstPtr = NULL;	/* It was empty before. */
	queued = 0;
	Run(fileOpPtr);
	Done(fileOpPtr);
    }
    IocpMutexUnlock(&mutex);
}

IocpFileOp *
IocpFileTake(IocpFileJobs *jobsPtr)
{
    IocpFileOp *firstPtr;

    IocpMutexLock(&mutex);
    firstPtr = jobsPtr->donePtr;
    jobsPtr->donePtr = NULL;
    IocpMutexUnlock(&mutex);
    for (IocpFileOp *fileOpPtr = firstPtr; fileOpPtr != NULL; fileOpPtr = fileOpPtr->linkPtr) {
	jobsPtr->outCount--;
    }
    return firstPtr;
}
