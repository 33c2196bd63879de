/*
 * iocpBuf.c --
 *	Memory: counted, and able to run out. NULL is an ordinary answer; callers report ENOMEM.
 */

#include "iocpInt.h"

/*
 * IocpAlloc --
 *	Zeroed memory, counted in heapBytes.
 */
void *
IocpAlloc(IocpThread *threadPtr, size_t size)
{
    void *memory = IOCP_OUT_OF_MEMORY() ? NULL : calloc(1, size);

    if (memory != NULL) {
	IOCP_COUNT(threadPtr, heapBytes, size);
    }
    return memory;
}

void
IocpFree(IocpThread *threadPtr, void *memory, size_t size)
{
    if (memory != NULL) {
	free(memory);
	IOCP_COUNT(threadPtr, heapBytes, -size);
    }
}

/*
 * IocpBufNew --
 *	An empty buffer for size bytes, in one piece with its header; counted in buffers and
 *	bytesQueued.
 */
IocpBuf *
IocpBufNew(IocpThread *threadPtr, size_t size)
{
    IocpBuf *bufPtr = IOCP_OUT_OF_MEMORY() ? NULL : malloc(sizeof(IocpBuf) + size);

    if (bufPtr != NULL) {
	bufPtr->nextPtr = NULL;
	bufPtr->data = (char *)(bufPtr + 1);
	bufPtr->size = size;
	bufPtr->start = bufPtr->end = 0;
	bufPtr->poolId = -1;
	IOCP_COUNT(threadPtr, buffers, 1);
	IOCP_COUNT(threadPtr, bytesQueued, size);
    }
    return bufPtr;
}

/*
 * IocpBufCopy --
 *	A buffer that holds size bytes from data on, and no more.
 */
IocpBuf *
IocpBufCopy(IocpThread *threadPtr, const char *data, size_t size)
{
    IocpBuf *bufPtr = IocpBufNew(threadPtr, size);

    if (bufPtr != NULL) {
	memcpy(bufPtr->data, data, size);
	bufPtr->end = size;
    }
    return bufPtr;
}

/*
 * IocpBufFree --
 *	Free a buffer, or give it back to the engine's pool.
 */
void
IocpBufFree(IocpThread *threadPtr, IocpBuf *bufPtr)
{
    IOCP_COUNT(threadPtr, buffers, -1);
    if (bufPtr->poolId >= 0) {
	threadPtr->enginePtr->typePtr->releaseProc(threadPtr->enginePtr, bufPtr);
    } else {
	IOCP_COUNT(threadPtr, bytesQueued, -bufPtr->size);
	free(bufPtr);
    }
}

void
IocpBufFreeChain(IocpThread *threadPtr, IocpBuf *bufPtr)
{
    while (bufPtr != NULL) {
	IocpBuf *nextPtr = bufPtr->nextPtr;

	IocpBufFree(threadPtr, bufPtr);
	bufPtr = nextPtr;
    }
}

/*
 * IocpBufAppend --
 *	Put a buffer behind the last one of a chain, which may be empty.
 */
void
IocpBufAppend(IocpBuf **firstPtrPtr, IocpBuf **lastPtrPtr, IocpBuf *bufPtr)
{
    bufPtr->nextPtr = NULL;
    *(*lastPtrPtr != NULL ? &(*lastPtrPtr)->nextPtr : firstPtrPtr) = bufPtr;
    *lastPtrPtr = bufPtr;
}
