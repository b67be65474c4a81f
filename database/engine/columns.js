/** PostgreSQL's types, by object id: what each is to Prisma, and how its text is read. */

import { ColumnTypeEnum } from '@prisma/driver-adapter-utils'
import { parse as parseArray } from 'postgres-array'

/** @typedef {{ type: number, parse: (text: string) => unknown }} Column type: one of ColumnTypeEnum */

const asIs = (text) => text
const bytes = (text) => Array.from(Buffer.from(text.slice(2), 'hex')) // the engine takes no typed array
const amount = (text) => text.replace(/[^-.\d]/g, '')
const withoutZone = (text) => text.replace(/[+-]\d\d(:\d\d)*$/, '') // the session's, which is UTC

/** @type {[scalar: number, array: number, type: keyof typeof ColumnTypeEnum, parse: (text: string) => unknown][]} */
const TYPES = [
  [16, 1000, 'Boolean', (text) => text === 't'],
  [17, 1001, 'Bytes', bytes],
  [20, 1016, 'Int64', asIs],
  [21, 1005, 'Int32', Number],
  [23, 1007, 'Int32', Number],
  [26, 1028, 'Int64', asIs],
  [114, 199, 'Json', asIs],
  [3802, 3807, 'Json', asIs],
  [700, 1021, 'Float', Number],
  [701, 1022, 'Double', Number],
  [790, 791, 'Numeric', amount],
  [1700, 1231, 'Numeric', asIs],
  [1082, 1182, 'Date', asIs],
  [1083, 1183, 'Time', asIs],
  [1266, 1270, 'Time', withoutZone],
  [1114, 1115, 'DateTime', asIs],
  [1184, 1185, 'DateTime', withoutZone],
  [2950, 2951, 'Uuid', asIs],
  // Text, like every type that is not here: an enum's or an extension's id is the database's own.
  [25, 1009, 'Text', asIs],
  [18, 1002, 'Text', asIs],
  [19, 1003, 'Text', asIs],
  [1042, 1014, 'Text', asIs],
  [1043, 1015, 'Text', asIs],
  [142, 143, 'Text', asIs],
  [650, 651, 'Text', asIs],
  [869, 1041, 'Text', asIs],
  [1186, 1187, 'Text', asIs],
  [1560, 1561, 'Text', asIs],
  [1562, 1563, 'Text', asIs],
]

/** @type {Column} */
const TEXT = { type: ColumnTypeEnum.Text, parse: asIs }

/** @type {Map<number, Column>} */
const COLUMNS = new Map(
  TYPES.flatMap(([scalar, array, type, parse]) => [
    [scalar, { type: ColumnTypeEnum[type], parse }],
    [array, { type: ColumnTypeEnum[`${type}Array`], parse: (text) => parseArray(text, parse) }],
  ]),
)

/** @param {number} id of a type @returns {Column} */
export const column = (id) => COLUMNS.get(id) ?? TEXT
