import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { request } from 'node:http'
import { connect } from 'node:net'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

import { freePort, Running, tables, TOKEN } from './running.js'

/** @type {string} */
let url
/** @type {Running} */
let engine
before(async () => {
  url = await tables('engine_server')
  engine = await Running.start(url)
})
after(() => engine.stop())

const program = fileURLToPath(new URL('../query-engine', import.meta.url))

/** A request with headers that fetch would not send. */
async function status(headers, method = 'GET', path = '/status') {
  const sent = request({ host: '127.0.0.1', port: engine.port, method, path, headers }).end()
  const [response] = await once(sent, 'response')
  response.resume()
  return response.statusCode
}

const bearer = { Authorization: `Bearer ${TOKEN}` }

test('it is there', async () => {
  assert.deepEqual(await (await engine.request('GET', '/status')).json(), { status: 'ok' })
})

for (const [name, headers, expected] of [
  ['the token', bearer, 200],
  ['no token', {}, 401],
  ['a wrong token', { Authorization: 'Bearer wrong' }, 401],
  ['the token, but for its end', { Authorization: `Bearer ${TOKEN.slice(0, -1)}` }, 401],
  ['the token in another scheme', { Authorization: TOKEN }, 401],
  ['the name of this machine', { ...bearer, Host: 'localhost' }, 403],
  ['a name that resolves to this machine', { ...bearer, Host: 'rebound.example' }, 403],
  ['a browser of any origin', { ...bearer, Origin: 'http://127.0.0.1' }, 403],
  ['a browser without an origin', { ...bearer, Origin: 'null' }, 403],
  ['a browser that says nothing of one', { ...bearer, 'Sec-Fetch-Site': 'cross-site' }, 403],
]) {
  test(`${name}: ${expected}`, async () => assert.equal(await status(headers), expected))
}

test('no route answers without the token', async () => {
  for (const path of ['/', '/transaction/start', '/transaction/x/commit', '/transaction/x/rollback', '/nowhere']) {
    assert.equal(await status({}, 'POST', path), 401)
  }
})

test('what is nowhere is 404', async () => {
  assert.equal((await engine.request('GET', '/nowhere')).status, 404)
  assert.equal((await engine.request('GET', '/')).status, 404)
  assert.equal((await engine.request('GET', '/metrics')).status, 404)
})

test('a body that is not JSON is 400', async () => assert.equal((await engine.request('POST', '/', '{')).status, 400))

test('a body without end is 413', async () => {
  const chunk = new Uint8Array(1024 * 1024).fill(32)
  async function* endless() {
    for (;;) yield chunk
  }
  const sent = fetch(`http://127.0.0.1:${engine.port}/`, {
    method: 'POST',
    headers: bearer,
    body: endless(),
    duplex: 'half',
  })
  assert.equal(
    await sent.then(
      ({ status }) => status,
      () => 413,
    ),
    413,
  )
  assert.ok(await engine.isReady())
})

test('who hangs up in the middle of a body ends nothing', async () => {
  const socket = connect(engine.port, '127.0.0.1')
  await once(socket, 'connect')
  socket.write(
    `POST / HTTP/1.1\r\nHost: 127.0.0.1:${engine.port}\r\nAuthorization: Bearer ${TOKEN}\r\nContent-Length: 100\r\n\r\n{`,
  )
  socket.destroy()
  assert.ok(await engine.isReady())
})

for (const [name, query] of [
  ['no GraphQL', 'secret {{{'],
  ['two operations', 'query { a } query { b }'],
  ['two fields', 'query { result: findManyThing { id } other: findManyThing { id } }'],
  ['no operation of Prisma', 'query { result: dropThing { id } }'],
  ['no model', 'query { result: findManySecret { id } }'],
  ['a variable', 'query { result: findManyThing(take: $x) { id } }'],
  ['a fragment', 'query { result: findManyThing { ...secret } }'],
  [
    'nesting without end',
    `query { result: findManyThing(where: ${'{ NOT: '.repeat(20_000)}{}${'}'.repeat(20_000)}) { id } }`,
  ],
]) {
  test(`${name} is an error that quotes nothing, and the engine lives`, async () => {
    const { errors } = await engine.answer(query)
    assert.equal(errors[0].user_facing_error.error_code, 'P2009')
    assert.doesNotMatch(JSON.stringify(errors), /secret/i)
    assert.ok(await engine.isReady())
  })
}

test('a version, without a database or a token', async () => {
  const { stdout } = await promisify(execFile)(program, ['--version'], {
    env: { ...process.env, LLMUX_NODE: process.execPath },
  })
  assert.match(stdout, /^query-engine [0-9a-f]{40}\n$/)
})

for (const [name, environment, reason] of [
  ['a token', { LLMUX_ENGINE_TOKEN: '' }, /LLMUX_ENGINE_TOKEN/],
  ['a schema', { PRISMA_DML_PATH: '' }, /PRISMA_DML_PATH/],
  ['a connection string', { DATABASE_URL: '' }, /connection string/],
]) {
  test(`without ${name} it does not start, and says why`, async () => {
    await assert.rejects(Running.start(url, environment), reason)
  })
}

for (const signal of /** @type {NodeJS.Signals[]} */ (['SIGTERM', 'SIGINT'])) {
  test(`${signal} ends it with 0, and its connections with it`, async () => {
    const another = await Running.start(`${url}&application_name=ending`)
    await another.raw('SELECT 1 AS x')
    const connections = () =>
      engine.raw("SELECT count(*)::int AS n FROM pg_stat_activity WHERE application_name = 'ending'")
    assert.equal((await connections())[0].n.prisma__value, 1)
    assert.equal(await another.stop(signal), 0)
    assert.equal((await connections())[0].n.prisma__value, 0)
    assert.equal(another.printed, '')
  })
}

test('a query that runs is answered before it ends', async () => {
  const another = await Running.start(url)
  const running = another.raw('SELECT pg_sleep(0.5)::text AS x')
  await another.raw('SELECT 1 AS x')
  assert.equal(await another.stop(), 0)
  assert.equal((await running).length, 1)
})

test('it ends when its parent ends', async () => {
  const port = await freePort()
  const environment = { ...process.env, LLMUX_NODE: process.execPath, DATABASE_URL: url, LLMUX_ENGINE_TOKEN: TOKEN }
  const schema = fileURLToPath(new URL('schema.prisma', import.meta.url))
  const parent = spawn('sh', ['-c', `"$0" -p ${port} & echo $!; wait`, program], {
    env: { ...environment, PRISMA_DML_PATH: schema },
  })
  const [child] = await once(parent.stdout, 'data')
  const answers = () =>
    fetch(`http://127.0.0.1:${port}/status`, { headers: bearer }).then(
      () => true,
      () => false,
    )
  while (!(await answers()));
  parent.kill('SIGKILL')
  while (await answers());
  const lives = () => {
    try {
      return process.kill(Number(child), 0)
    } catch {
      return false
    }
  }
  while (lives());
})
