// @tus/server with its file store, on a port of its own or the given one:
//   node tus-server.mjs FOLDER [PORT]
// Prints one line when it is ready, with the URL where uploads are created.
import { FileStore } from '@tus/file-store'
import { Server } from '@tus/server'

// On Node 20 the server dies now and then when a client goes in the middle of an append
// ("ReadableStream is already closed", thrown by Node's own streams). That is not what is looked at here.
process.on('uncaughtException', (error) => console.error(error))

const [directory, port] = process.argv.slice(2)
const server = new Server({ path: '/files', datastore: new FileStore({ directory }) })
const listener = server.listen({ host: '127.0.0.1', port: Number(port ?? 0) }, () => {
  console.log(`ready: http://127.0.0.1:${listener.address().port}/files`)
})
