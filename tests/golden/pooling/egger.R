# Egger's test as metafor's regtest(model = "lm"). Run: Rscript egger.R > egger.json
suppressMessages({library(metafor); library(metadat); library(jsonlite)})
one <- function(d) { r <- regtest(d$yi, d$vi, model = "lm"); f <- coef(summary(r$fit))
  list(y = as.numeric(d$yi), v = as.numeric(d$vi), t = r$zval, df = r$dfs, p = r$pval,
       intercept = f[2, 1], se = f[2, 2]) }
bcg <- escalc(measure = "RR", ai = tpos, bi = tneg, ci = cpos, di = cneg, data = dat.bcg)
mag <- escalc(measure = "OR", ai = ai, n1i = n1i, ci = ci, n2i = n2i, data = dat.egger2001)
cat(toJSON(list(made_by = list(R = R.version.string, metafor = as.character(packageVersion("metafor"))),
  bcg = one(bcg), egger2001 = one(mag)), digits = I(17), auto_unbox = TRUE, pretty = TRUE), "\n")
