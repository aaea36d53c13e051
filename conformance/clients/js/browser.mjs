// Uppy's tus plugin in headless Chromium, as the JSON in the first argument says:
//   chromium, endpoint, file     the browser, where to, and what
//   options                      passed to Uppy's tus plugin
//   pauseAt, holdAt              see page.html; after holdAt the page is reloaded, and the upload
//                                is started again as a person would
//   ask                          requests that the page itself sends, in place of an upload
// Prints one JSON event a line: requests, paused, answer, success, error.
import { createServer } from 'node:http'
import { readFile } from 'node:fs/promises'
import { chromium } from 'playwright-core'

const FILES = {
  '/': ['page.html', 'text/html'],
  '/uppy.mjs': ['node_modules/uppy/dist/uppy.min.mjs', 'text/javascript'],
}
const FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-sync',
  '--disable-background-networking', '--disable-component-update',
]
const TIMEOUT_MS = 120_000

const task = JSON.parse(process.argv[2])
const report = (event, facts = {}) => console.log(JSON.stringify({ event, ...facts }))

const pages = createServer(async (request, response) => {
  const [name, type] = FILES[request.url] ?? []
  if (!name) return response.writeHead(404).end()
  response.setHeader('Content-Type', type)
  response.end(await readFile(new URL(name, import.meta.url)))
})
await new Promise((listening) => pages.listen(0, '127.0.0.1', listening))
const browser = await chromium.launch({ executablePath: task.chromium, args: FLAGS })

try {
  const page = await browser.newPage()
  page.on('pageerror', (error) => console.error(error.message))
  page.setDefaultTimeout(TIMEOUT_MS)
  await page.goto(`http://127.0.0.1:${pages.address().port}/`)
  await page.waitForFunction('window.state')
  if (task.ask) await ask(page)
  else await upload(page)
} catch (error) {
  report('error', { message: error.message })
} finally {
  await browser.close()
  pages.close()
}

async function ask(page) {
  for (const { url, method, headers, fields } of task.ask) {
    const call = ([url, method, headers, fields]) => window.ask(url, method, headers, fields)
    report('answer', await page.evaluate(call, [url, method, headers, fields]))
  }
}

async function upload(page) {
  let state = await run(page, task)
  if (state.name === 'held') {
    await page.reload()
    await page.waitForFunction('window.state')
    state = await run(page, { ...task, holdAt: null })
  }
  if (state.paused) report('paused')
  if (state.name === 'success') report('success', { url: state.url })
  else report('error', { message: state.message })
}

async function run(page, { endpoint, options, pauseAt, holdAt }) {
  await page.setInputFiles('#file', task.file)
  await page.evaluate((task) => window.upload(task), { endpoint, options, pauseAt, holdAt })
  await page.waitForFunction('["held", "success", "error"].includes(window.state.name)')
  const state = await page.evaluate('window.state')
  report('requests', { requests: state.requests })
  return state
}
