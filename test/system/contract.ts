/** What `/openapi.json` promises, as a judge of answers. */
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js'
import type { Answer } from '../../scripts/lab/http.ts'

interface Media {
  readonly schema?: object
  readonly example?: unknown
}

export interface Parameter {
  readonly name: string
  readonly in: 'path' | 'query' | 'header'
  readonly required?: boolean
  readonly example?: string
  readonly schema: {
    readonly type?: string
    readonly enum?: readonly string[]
  }
}

interface Operation {
  readonly operationId?: string
  readonly summary?: string
  readonly parameters?: readonly Parameter[]
  readonly requestBody?: { readonly content: Readonly<Record<string, Media>> }
  readonly responses: Readonly<Record<string, { readonly content?: Readonly<Record<string, Media>> }>>
  readonly security?: readonly Readonly<Record<string, readonly string[]>>[]
}

export interface Described extends Operation {
  readonly method: string
  /** With parameters in braces. */
  readonly path: string
}

interface Document {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>
  readonly components: { readonly schemas: Readonly<Record<string, object>> }
}

export class Contract {
  readonly operations: readonly Described[]
  readonly document: Document
  readonly #ajv: Ajv2020
  readonly #compiled = new Map<string, ValidateFunction>()

  constructor(document: unknown) {
    this.document = document as Document
    // Formats of documents are of our own.
    this.#ajv = new Ajv2020({ strict: false, validateFormats: false, allErrors: true })
    this.#ajv.addSchema({ $id: 'openapi', components: this.document.components })
    this.operations = Object.entries(this.document.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]) => ({
        ...operation,
        method: method.toUpperCase(),
        path,
      })),
    )
  }

  /** What is asked for by a method at a path; null: nothing that there is. */
  find(method: string, path: string): Described | null {
    const wanted = method === 'HEAD' ? 'GET' : method
    const pathname = path.split('?')[0] ?? ''
    const found = this.operations.find(
      (one) =>
        one.method === wanted &&
        new RegExp(`^${one.path.replace(/[.]/g, '\\.').replace(/\{\w+\}/g, '[^/]*')}$`).test(pathname),
    )
    return found === undefined ? null : { ...found, method }
  }

  /** What is wrong with a problem that nothing declares, because nothing is there. */
  faultOfProblem({ status, headers, text }: Answer): string | null {
    if (status < 400 || status >= 500) return `${status}: ${text.slice(0, 300)}`
    if (!headers['content-type']?.startsWith('application/problem+json'))
      return `${status} is no problem+json`
    const validate = this.#validator({ $ref: '#/components/schemas/Problem' })
    return text === '' || validate(JSON.parse(text)) ? null : this.#ajv.errorsText(validate.errors)
  }

  /** What is wrong with an answer, in a line; null: it is as promised. */
  faultOf({ responses, method }: Described, { status, headers, text }: Answer): string | null {
    const response = responses[String(status)]
    if (response === undefined) return `${status} is not declared: ${text.slice(0, 300)}`
    if (method === 'HEAD' || status === 204 || status === 304)
      return text === '' ? null : `${status} with a body`
    const type = String(headers['content-type']).split(';')[0] ?? ''
    const media = response.content?.[type]
    if (media === undefined) return `${status} is not declared as ${type}`
    if (!/json$/.test(type)) return null
    let body: unknown
    try {
      body = JSON.parse(text)
    } catch {
      return `no JSON: ${text.slice(0, 100)}`
    }
    const validate = this.#validator(media.schema ?? {})
    if (validate(body)) return null
    return `${status}: ${this.#ajv.errorsText(validate.errors)} in ${text.slice(0, 300)}`
  }

  #validator(schema: object): ValidateFunction {
    const text = JSON.stringify(schema).replaceAll('"#/components/', '"openapi#/components/')
    const known = this.#compiled.get(text)
    if (known !== undefined) return known
    const made = this.#ajv.compile(JSON.parse(text))
    this.#compiled.set(text, made)
    return made
  }
}
