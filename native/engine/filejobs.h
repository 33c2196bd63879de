/*
 * filejobs.h --
 *	IOCP_OP_SEND_FILE and IOCP_OP_WRITE_FILE on Linux: sendfile(2) and writev(2) in threads of
 *	their own, since disks block. What the engines add is waiting: until a job is done, and
 *	until a socket has room again.
 *
 * A job is one attempt to send, which the socket never blocks, or one write. The op that it works
 * for is
 *
 *	the engine's -> a worker's	IocpFileStart
 *	a worker's -> done		Worker
 *	done -> the engine's		IocpFileTake
 *
 * and the engine then completes it, or waits for room (IocpFileWaits) and starts another job.
 */

#ifndef IOCP_FILEJOBS_H
#define IOCP_FILEJOBS_H

#include "engine.h"

#define IOCP_FILE_SIGNALS 16	/* Bytes to read from the pipe at once; more come again. */

/*
 * The jobs of one engine. The pipe is no eventfd: on Linux 6.18, a write to one that makes a ring
 * signal the eventfd which is registered with it does not always do so, and Tcl's notifier sleeps
 * on.
 */
typedef struct IocpFileJobs {
    int fd;			/* A pipe: readable when jobs are done. -1: none was started. */
    int writeFd;		/* Its other end. */
    int outCount;		/* Jobs that are not taken back yet. */
    IocpFileOp *donePtr;	/* Under the mutex of filejobs.c. */
} IocpFileJobs;

int IocpFileJobsOpen(IocpFileJobs *jobsPtr);
				/* See to it that there is a descriptor. 0 or -errno. */
void IocpFileJobsClose(IocpFileJobs *jobsPtr);
				/* No job is out. */
void IocpFileStart(IocpFileJobs *jobsPtr, IocpFileOp *fileOpPtr);
				/* jobsPtr has a descriptor. */
IocpFileOp *IocpFileTake(IocpFileJobs *jobsPtr);
				/* Those that are done, linked through linkPtr. The caller has read
				 * what was in the pipe before. */


/* Whether a job that is done has found no room in its socket. */
static inline int
IocpFileWaits(const IocpFileOp *fileOpPtr)
{
    return fileOpPtr->op.kind == IOCP_OP_SEND_FILE && fileOpPtr->result == -EAGAIN;
}

#endif /* IOCP_FILEJOBS_H */
