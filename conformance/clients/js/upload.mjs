// One upload with tus-js-client in Node, as the JSON in the first argument says:
//   endpoint, file      where to, and what
//   urlStorage          a file that remembers upload URLs; a stored upload is resumed
//   options             passed to tus.Upload as they are ("Infinity" as chunkSize becomes a number)
//   stream              give the client a stream of unknown length instead of the file
//   abortAt, then       after so many bytes abort, and then "resume" or "terminate"
// Prints one JSON event a line: response, chunk, aborted, terminated, success, error.
import { createReadStream } from 'node:fs'
import { PassThrough } from 'node:stream'
import { setImmediate } from 'node:timers/promises'
import * as tus from 'tus-js-client'

const task = JSON.parse(process.argv[2])
const report = (event, facts = {}) => console.log(JSON.stringify({ event, ...facts }))

const options = {
  endpoint: task.endpoint,
  retryDelays: null,
  ...task.options,
  onAfterResponse: async (request, response) => {
    report('response', {
      method: request.getMethod(),
      url: request.getURL(),
      status: response.getStatus(),
      offset: response.getHeader('Upload-Offset') ?? null,
    })
    await noticeEnd()
  },
  onChunkComplete: (length, accepted) => report('chunk', { length, accepted }),
  onSuccess: () => report('success', { url: upload.url }),
  onError: (error) => {
    report('error', { message: error.message })
    process.exitCode = 1
  },
}
if (options.chunkSize === 'Infinity') options.chunkSize = Infinity
if (task.urlStorage) options.urlStorage = new tus.FileUrlStorage(task.urlStorage)

const file = createReadStream(task.file)
const stream = task.stream ? file.pipe(new PassThrough()) : null
const upload = new tus.Upload(stream ?? file, options)

// tus-js-client 4.3 waits for ever when a stream ends on the border of an append, unless
// something has asked the stream for more before the client does.
async function noticeEnd() {
  if (!stream) return
  stream.read(0)
  await setImmediate()
}

if (task.abortAt) {
  let aborted = false
  options.onProgress = upload.options.onProgress = async (sent) => {
    if (aborted || sent < task.abortAt) return
    aborted = true
    await upload.abort(task.then === 'terminate')
    report(task.then === 'terminate' ? 'terminated' : 'aborted', { url: upload.url })
    if (task.then === 'resume') upload.start()
  }
}

if (task.urlStorage) {
  const previous = await upload.findPreviousUploads()
  if (previous.length > 0) upload.resumeFromPreviousUpload(previous[0])
}
upload.start()
