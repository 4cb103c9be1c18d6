# Golden values of the second stage: every tau^2 estimator, interval, Q-profile limit and prediction
# interval of metafor on published data sets. Run: Rscript second_stage.R > second_stage.json
suppressMessages({library(metafor); library(metadat); library(jsonlite)})

sets <- list(
  # Colditz 1994, BCG vaccine, log risk ratio (Viechtbauer 2010, J Stat Softw 36(3), section 3)
  bcg = escalc("RR", ai = tpos, bi = tneg, ci = cpos, di = cneg, data = dat.bcg),
  # Normand 1999, length of stay after stroke, raw mean difference
  normand1999 = escalc("MD", m1i = m1i, sd1i = sd1i, n1i = n1i, m2i = m2i, sd2i = sd2i, n2i = n2i,
                       data = dat.normand1999),
  # Hackshaw 1998, environmental tobacco smoke, log odds ratio
  hackshaw1998 = dat.hackshaw1998[, c("yi", "vi")],
  # Raudenbush 1985, teacher expectancy, SMD
  raudenbush1985 = dat.raudenbush1985[, c("yi", "vi")],
  # Only three trials, and two: the first rows of Normand
  normand_three = escalc("MD", m1i = m1i, sd1i = sd1i, n1i = n1i, m2i = m2i, sd2i = sd2i,
                         n2i = n2i, data = dat.normand1999)[1:3, ],
  normand_two = escalc("MD", m1i = m1i, sd1i = sd1i, n1i = n1i, m2i = m2i, sd2i = sd2i,
                       n2i = n2i, data = dat.normand1999)[1:2, ],
  # Estimates nearer to each other than chance: every tau^2 at its bound, q below 1
  alike = data.frame(yi = c(1.0, 1.2, 0.9, 1.1, 1.05), vi = c(0.25, 0.3, 0.2, 0.5, 0.4))
)
methods <- c(reml = "REML", ml = "ML", dl = "DL", pm = "PM", eb = "EB", he = "HE", hs = "HS",
             sj = "SJ", fe = "FE")
tight <- list(threshold = 1e-12, maxiter = 20000, tol = 1e-13)

one <- function(d, m) {
  fit <- function(test) suppressWarnings(
    rma(yi, vi, data = d, method = m, test = test, control = tight))
  z <- fit("z"); t <- fit("knha"); a <- fit("adhoc")
  row <- function(r) {
    p <- predict(r)
    riley <- tryCatch(suppressWarnings(predict(r, pi.type = "riley")), error = function(e) NULL)
    list(se = r$se, ci_low = r$ci.lb, ci_high = r$ci.ub, p = r$pval,
         pi_low = p$pi.lb, pi_high = p$pi.ub,
         pi_riley_low = riley$pi.lb, pi_riley_high = riley$pi.ub)
  }
  list(estimate = as.numeric(z$beta), tau2 = z$tau2, se_tau2 = z$se.tau2, i2 = z$I2, h2 = z$H2,
       q = z$QE, q_p = z$QEp, weights = as.numeric(weights(z)) / 100,
       wald = row(z), hksj = row(t), `hksj-truncated` = row(a))
}
out <- list(
  made_by = list(R = R.version.string, metafor = as.character(packageVersion("metafor")),
                 metadat = as.character(packageVersion("metadat"))),
  tolerance = list(default_relative = 1e-8,
                   note = "metafor iterates REML, ML and EB to 1e-12, PM by uniroot to 1e-13"),
  sets = lapply(sets, function(d) {
    ci <- confint(rma(yi, vi, data = d), control = list(tol = 1e-13, tau2.max = 1e6))$random
    loo <- leave1out(rma(yi, vi, data = d, method = "DL"))
    list(yi = as.numeric(d$yi), vi = as.numeric(d$vi),
         methods = lapply(methods, function(m) one(d, m)),
         q_profile = list(low = ci[, "ci.lb"], high = ci[, "ci.ub"], names = rownames(ci)),
         leave_one_out_dl = list(estimate = loo$estimate, se = loo$se, tau2 = loo$tau2))
  })
)
cat(toJSON(out, digits = I(17), auto_unbox = TRUE, pretty = TRUE, na = "null"), "\n")
