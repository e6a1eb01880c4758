# One image for every part of UPID; what it runs is the command's last words (services/cost/dist/main.js, cli/dist/main.js keys ...).
FROM node:24-bookworm-slim AS build
RUN npm install --global pnpm@12.21.0
WORKDIR /upid
COPY package.json pnpm-lock.yaml pnpm-workspace.yaml ./
COPY libs/contracts/package.json libs/contracts/
COPY libs/platform/package.json libs/platform/
COPY libs/testing/package.json libs/testing/
COPY services/collector/package.json services/collector/
COPY services/intelligence/package.json services/intelligence/
COPY services/cost/package.json services/cost/
COPY services/optimizer/package.json services/optimizer/
COPY services/gateway/package.json services/gateway/
COPY cli/package.json cli/
COPY bench/package.json bench/
COPY simulator/package.json simulator/
COPY test-e2e/package.json test-e2e/
RUN pnpm install --frozen-lockfile
COPY . .
RUN node scripts/build.mjs

FROM node:24-bookworm-slim
ENV NODE_ENV=production
WORKDIR /upid
COPY --from=build --chown=root:root /upid /upid
# Volumes begin as these folders are, so that they belong to the user that runs.
RUN mkdir /keys /state /spool && chown node:node /keys /state /spool
USER node
ENTRYPOINT ["node", "--enable-source-maps"]
CMD ["cli/dist/main.js", "help"]
