# Meta-regression by every tau^2 estimator and interval, subgroups with separate and common tau^2,
# and influence measures, of metafor on published data sets.
# Run: Rscript meta_regression.R > meta_regression.json
suppressMessages({library(metafor); library(metadat); library(jsonlite)})

bcg <- escalc("RR", ai = tpos, bi = tneg, ci = cpos, di = cneg, data = dat.bcg)
normand <- escalc("MD", m1i = m1i, sd1i = sd1i, n1i = n1i, m2i = m2i, sd2i = sd2i, n2i = n2i,
                  data = dat.normand1999)
raudenbush <- dat.raudenbush1985
sets <- list(
  bcg_latitude = list(d = bcg, x = bcg$ablat),
  raudenbush_weeks = list(d = raudenbush, x = raudenbush$weeks),
  # A covariate that explains nothing: R^2 at its bound
  normand_number = list(d = normand, x = c(3, 1, 4, 1, 5, 9, 2, 6, 5)),
  # tau^2 = 0 with and without
  alike = list(d = data.frame(yi = c(1.0, 1.2, 0.9, 1.1, 1.05, 1.0), vi = c(.25, .3, .2, .5, .4, .3)),
               x = c(1, 2, 3, 4, 5, 7)))
methods <- c(reml = "REML", ml = "ML", dl = "DL", pm = "PM", eb = "EB", he = "HE", hs = "HS",
             sj = "SJ", fe = "FE")
tests <- c(wald = "z", hksj = "knha", `hksj-truncated` = "adhoc")
tight <- list(threshold = 1e-12, maxiter = 20000, tol = 1e-13)
fit <- function(d, m, t, mods = NULL) suppressWarnings(
  if (is.null(mods)) rma(yi, vi, data = d, method = m, test = t, control = tight)
  else rma(yi, vi, mods = mods, data = d, method = m, test = t, control = tight))

slope <- function(s, m) {
  z <- fit(s$d, m, "z", ~ s$x)
  list(tau2 = z$tau2, i2 = z$I2, h2 = z$H2, q = z$QE, q_p = z$QEp,
       r2 = if (is.null(z$R2)) NA else z$R2,
       coefficients = as.numeric(z$beta),
       ci = lapply(tests, function(t) {
         r <- fit(s$d, m, t, ~ s$x)
         list(se = r$se, low = r$ci.lb, high = r$ci.ub, p = r$pval, qm = r$QM, qm_p = r$QMp)
       }))
}
# Subgroups: each pooled alone (own tau^2) and compared by Wald; one tau^2 for all.
words <- list(bcg_alloc = list(d = bcg, g = as.character(bcg$alloc)),
              raudenbush_setting = list(d = raudenbush, g = as.character(raudenbush$setting)))
groups <- function(s, m) {
  own <- lapply(split(s$d, s$g), function(d) {
    r <- fit(d, m, "z"); a <- fit(d, m, "adhoc")
    list(estimate = as.numeric(r$beta), se = r$se, tau2 = r$tau2, i2 = r$I2, q = r$QE, q_p = r$QEp,
         adhoc_se = a$se, low = a$ci.lb, high = a$ci.ub)
  })
  apart <- rma(sapply(own, `[[`, "estimate"), sei = sapply(own, `[[`, "se"), method = "FE")
  common <- lapply(tests, function(t) {
    r <- fit(s$d, m, t, ~ 0 + factor(s$g)); b <- fit(s$d, m, t, ~ factor(s$g))
    list(estimate = as.numeric(r$beta), se = r$se, low = r$ci.lb, high = r$ci.ub, tau2 = r$tau2,
         qm = b$QM, qm_p = b$QMp, r2 = b$R2)
  })
  list(separate = own, separate_q = apart$QE, separate_p = apart$QEp, common = common)
}
infl <- function(d, m) {
  i <- influence(fit(d, m, "z"))
  c(as.list(as.data.frame(unclass(i$inf)[c("rstudent", "dffits", "cook.d", "cov.r", "tau2.del",
                                           "QE.del", "hat")])),
    list(dfbetas = i$dfbs$intrcpt, influential = i$is.infl))
}
out <- list(
  made_by = list(R = R.version.string, metafor = as.character(packageVersion("metafor")),
                 metadat = as.character(packageVersion("metadat"))),
  slopes = lapply(sets, function(s) list(yi = as.numeric(s$d$yi), vi = as.numeric(s$d$vi), x = s$x,
    methods = lapply(methods, function(m) slope(s, m)))),
  groups = lapply(words, function(s) list(yi = as.numeric(s$d$yi), vi = as.numeric(s$d$vi), g = s$g,
    methods = lapply(methods[c("reml", "dl", "pm")], function(m) groups(s, m)))),
  influence = lapply(list(bcg = bcg, normand1999 = normand, raudenbush1985 = raudenbush),
    function(d) list(yi = as.numeric(d$yi), vi = as.numeric(d$vi),
                     methods = lapply(methods[c("reml", "dl", "pm", "fe")], function(m) infl(d, m)))))
cat(toJSON(out, digits = I(17), auto_unbox = TRUE, pretty = FALSE, na = "null"), "\n")
