/* The operating system's randomness, as the simulation has it: none. The standard library looks this
 * symbol up weakly so that it can be replaced; hash maps and tokio take their seeds from it. */

#include <stddef.h>
#include <sys/types.h>

ssize_t getrandom(void *buffer, size_t length, unsigned int flags)
{
	unsigned char *bytes = buffer;
	(void)flags;
	for (size_t at = 0; at < length; at++)
		bytes[at] = (unsigned char)(at * 151 + 43);
	return (ssize_t)length;
}
