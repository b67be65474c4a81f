import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'

import { Running, tables } from './running.js'

/** @type {Running} */
let engine
before(async () => {
  engine = await Running.start(await tables('engine_errors'))
  await engine.result(
    'result: createOneTeam(data: { id: 1 name: "secret" members: { create: { user: "ann" } } }) { id }',
  )
})
after(() => engine.stop())

for (const [name, query, code, meta] of [
  ['a name twice', 'createOneTeam(data: { id: 2 name: "secret" }) { id }', 'P2002', { target: ['name'] }],
  [
    'a compound key twice',
    'createOneMember(data: { user: "ann" team: { connect: { id: 1 } } }) { user }',
    'P2002',
    { target: ['team_id', 'user'] },
  ],
  ['a key to nothing', 'createManyMember(data: [{ user: "x" team_id: 99 }]) { count }', 'P2003', undefined],
  ['one that others need', 'deleteOneTeam(where: { id: 1 }) { id }', 'P2003', undefined],
  [
    'an update of nothing',
    'updateOneTeam(where: { id: 99 } data: { name: "x" }) { id }',
    'P2025',
    { cause: 'Record to update not found.' },
  ],
  [
    'a connection to nothing',
    'createOneMember(data: { user: "x" team: { connect: { id: 99 } } }) { user }',
    'P2025',
    undefined,
  ],
  ['a field that is not there', 'findManyTeam(where: { nothing: 1 }) { id }', 'P2009', undefined],
  ['a field that is not there, to read', 'findManyTeam { nothing }', 'P2009', undefined],
  ['a value that must be there', 'createOneTeam(data: {}) { id }', 'P2009', undefined],
  ['a raw query', 'queryRaw(query: "SELECT * FROM nowhere", parameters: "[]")', 'P2010', undefined],
]) {
  test(`${name} is ${code}`, async () => {
    const error = await engine.error(`result: ${query}`)
    assert.equal(error.error_code, code)
    assert.equal(error.is_panic, false)
    assert.equal(typeof error.meta, 'object')
    if (meta) assert.deepEqual(error.meta, meta)
    assert.doesNotMatch(JSON.stringify(error), /secret/)
  })
}

test('prisma-client-py knows a missing value by its message', async () => {
  const error = await engine.error('result: createOneTeam(data: {}) { id }')
  assert.match(error.message, /A value is required but not set/)
})

test('prisma-client-py knows an unknown field by its kind', async () => {
  assert.equal((await engine.error('result: findManyTeam { nothing }')).meta.kind, 'UnknownSelectionField')
})

test('a table that is not there is P2021', async () => {
  await engine.raw('DROP TABLE "Budget"')
  const error = await engine.error('result: findManyBudget { id }')
  assert.deepEqual([error.error_code, error.meta.table], ['P2021', 'engine_errors.Budget'])
})

test('a deadlock is P2034', async () => {
  const start = async () =>
    (await (await engine.request('POST', '/transaction/start', { max_wait: 2000, timeout: 5000 })).json()).id
  await engine.result('result: createManyThing(data: [{ id: "a" }, { id: "b" }]) { count }')
  const touch = (id, transaction) =>
    engine.answer(`mutation { result: updateOneThing(where: { id: "${id}" } data: { whole: 1 }) { id } }`, transaction)
  const [one, two] = [await start(), await start()]
  await touch('a', one)
  await touch('b', two)
  const answers = await Promise.all([touch('b', one), touch('a', two)])
  const codes = answers.flatMap(({ errors }) => errors ?? []).map(({ user_facing_error }) => user_facing_error)
  assert.equal(codes.length, 1)
  assert.ok(codes[0].error_code === 'P2034' || /40P01/.test(codes[0].message), JSON.stringify(codes))
})

test('nothing of all this was printed', () => assert.equal(engine.printed, ''))
