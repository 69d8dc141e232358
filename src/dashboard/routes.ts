/** `GET /`: the dashboard, and what it is made of. Everything that it shows it asks the API for, as any client does. */
import type { HelmetOptions } from 'helmet'
import { Type } from 'typebox'
import { NOT_MODIFIED } from '../api/http/etag.ts'
import { isKnown } from '../api/http/preconditions.ts'
import type { Api, Routes } from '../api/route.ts'
import type { AssetName, Bundle } from './bundle.ts'

/** Nothing of anybody else's, nothing inline, and no text ever becomes markup or script. */
const CONTENT_SECURITY_POLICY = {
  useDefaults: false as const,
  directives: {
    defaultSrc: ["'none'"],
    scriptSrc: ["'self'"],
    styleSrc: ["'self'"],
    imgSrc: ["'self'"],
    connectSrc: ["'self'"],
    baseUri: ["'none'"],
    formAction: ["'none'"],
    frameAncestors: ["'none'"],
    requireTrustedTypesFor: ["'script'"],
    trustedTypes: ["'none'"],
  },
} satisfies HelmetOptions['contentSecurityPolicy']

export const dashboardRoutes: Routes<() => Promise<Bundle>> = (app, bundle) => {
  let built: Promise<Bundle> | null = null
  const keep = (): Promise<Bundle> => {
    built ??= bundle().catch((error: Error) => {
      built = null
      throw error
    })
    return built
  }
  serve(app, '/', 'index.html', 'text/html', keep)
  serve(app, '/dashboard/page.js', 'page.js', 'text/javascript', keep)
  serve(app, '/dashboard/page.css', 'page.css', 'text/css', keep)
  serve(app, '/dashboard/icon.svg', 'icon.svg', 'image/svg+xml', keep)
}

function serve(app: Api, path: string, name: AssetName, type: string, bundle: () => Promise<Bundle>): void {
  app.get(
    path,
    {
      schema: {
        hide: true,
        response: {
          200: { content: { [type]: { schema: Type.String() } } },
          304: NOT_MODIFIED,
        },
      },
      config: { access: 'public', contentSecurityPolicy: CONTENT_SECURITY_POLICY },
    },
    async (request, reply) => {
      const { [name]: asset } = await bundle()
      // Asked for anew each time, so that a page is never made of the parts of two releases.
      reply.header('cache-control', 'no-cache')
      if (isKnown(request, reply, asset.etag)) return reply.code(304).send()
      return reply.type(asset.type).send(asset.text)
    },
  )
}
